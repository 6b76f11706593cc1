UPDATE tenancy.memberships SET role = $3, permissions = $4, updated_at = now() WHERE tenant_id = $1 AND user_id = $2
