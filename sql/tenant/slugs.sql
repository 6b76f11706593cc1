SELECT slug FROM tenancy.tenants WHERE status <> 'deleted' ORDER BY slug
