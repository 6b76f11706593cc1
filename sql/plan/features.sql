SELECT key, name FROM tenancy.features ORDER BY position, key
