-- What the control plane knows about the platform's tables.
SELECT relation::oid AS oid, kind, tenant_column FROM tenancy.protected_tables
