SELECT id FROM tenancy.tenants WHERE id = $1 FOR NO KEY UPDATE
