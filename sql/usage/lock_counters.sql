-- What a tenant uses, and what it could use on another plan.
SELECT c.metric, c.used, f.limit_value, f.soft AS "soft!", m.position
  FROM tenancy.usage_counters c
  JOIN tenancy.tenants t ON t.id = c.tenant_id
  JOIN tenancy.metrics m ON m.key = c.metric
  LEFT JOIN tenancy.plan_limits l ON l.plan = $2 AND l.metric = m.key
  LEFT JOIN tenancy.limit_overrides o ON o.tenant_id = t.id AND o.metric = m.key
  LEFT JOIN unnest($3::text[], $4::bigint[]) e (metric, limit_value) ON e.metric = m.key
 CROSS JOIN LATERAL tenancy.limit_in_force(
           CASE WHEN l.plan IS NULL THEN m.default_limit ELSE l.limit_value END,
           CASE WHEN l.plan IS NULL THEN m.default_soft ELSE l.soft END,
           o.limit_value, o.soft, CASE WHEN o.tenant_id IS NOT NULL THEN coalesce(o.expires_at, 'infinity') END,
           e.limit_value) f
 WHERE c.tenant_id = $1
   AND c.period_start = tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now())
 ORDER BY c.metric
   FOR UPDATE OF c
