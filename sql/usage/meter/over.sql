-- How many tenants use more of a metric than a hard limit of theirs.
SELECT count(*) AS "tenants!"
  FROM tenancy.usage_counters c
  JOIN tenancy.metrics m ON m.key = c.metric
  JOIN tenancy.tenants t ON t.id = c.tenant_id
 CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, NULL) f
 WHERE c.metric = $1 AND c.used > f.limit_value AND NOT f.soft
   AND c.period_start = tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now())
