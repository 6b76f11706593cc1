INSERT INTO tenancy.audit_log (action, tenant_id, details) VALUES ($1, $2, $3)
