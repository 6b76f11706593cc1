INSERT INTO tenancy.limit_overrides AS o (tenant_id, metric, limit_value, soft, expires_at, reason)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, metric) DO UPDATE
   SET limit_value = excluded.limit_value, soft = excluded.soft, expires_at = excluded.expires_at,
       reason = excluded.reason, actor = excluded.actor, created_at = excluded.created_at
