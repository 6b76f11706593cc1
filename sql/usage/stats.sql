SELECT m.key AS metric, m.unit, coalesce(c.used, 0) AS "used!",
       CASE WHEN c.tenant_id IS NULL THEN l.limit_value ELSE c.limit_value END AS limit_value,
       nullif(tenancy.usage_period(m.reset, now()), '-infinity') AS period_start
  FROM tenancy.tenants t
 CROSS JOIN tenancy.metrics m
  LEFT JOIN tenancy.plan_limits l ON l.plan = t.plan AND l.metric = m.key
  LEFT JOIN tenancy.usage_counters c
    ON c.tenant_id = t.id AND c.metric = m.key AND c.period_start = tenancy.usage_period(m.reset, now())
 WHERE t.id = $1
 ORDER BY m.position, m.key
