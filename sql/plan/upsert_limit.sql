INSERT INTO tenancy.plan_limits (plan, metric, limit_value, soft) VALUES ($1, $2, $3, $4)
ON CONFLICT (plan, metric) DO UPDATE SET limit_value = excluded.limit_value, soft = excluded.soft
