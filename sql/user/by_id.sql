SELECT id FROM tenancy.users WHERE id = $1
