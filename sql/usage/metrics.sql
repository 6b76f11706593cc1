SELECT key, unit, kind, source FROM tenancy.metrics ORDER BY position, key
