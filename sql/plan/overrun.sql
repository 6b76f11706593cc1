-- How many tenants of some plans use more than a hard limit of theirs.
SELECT t.plan, count(DISTINCT t.id) AS "tenants!"
  FROM tenancy.tenants t
  JOIN tenancy.usage_counters c ON c.tenant_id = t.id
  JOIN tenancy.metrics m ON m.key = c.metric
 CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, NULL) f
 WHERE t.plan = ANY ($1) AND t.status <> 'deleted' AND NOT f.soft AND c.used > f.limit_value
   AND c.period_start = tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now())
 GROUP BY t.plan
