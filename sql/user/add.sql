INSERT INTO tenancy.memberships (tenant_id, user_id, role, permissions) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, user_id) DO NOTHING
