INSERT INTO tenancy.plan_limits (plan, metric, limit_value) VALUES ($1, $2, $3)
