DELETE FROM tenancy.limit_overrides WHERE tenant_id = $1 AND metric = $2
