SELECT m.unit, coalesce(c.used, 0) AS "used!", nullif(p.start, '-infinity') AS period_start, f.limit_value,
       f.soft AS "soft!", coalesce(f.source, v.source) AS "source!",
       o.tenant_id IS NOT NULL AS "override_set!", o.limit_value AS "override_value?", coalesce(o.soft, false) AS "override_soft!",
       o.expires_at AS "expires_at?", coalesce(o.expires_at <= now(), false) AS "expired!", o.reason AS "reason?",
       o.actor AS "actor?", o.created_at AS "created_at?",
       l.plan IS NOT NULL AS "plan_set!", l.limit_value AS "plan_value?", coalesce(l.soft, false) AS "plan_soft!",
       m.default_limit, m.default_soft
  FROM tenancy.tenants t
  JOIN tenancy.limit_layers v ON v.tenant_id = t.id
  JOIN tenancy.metrics m ON m.key = v.metric
 CROSS JOIN LATERAL tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now()) p (start)
  LEFT JOIN tenancy.usage_counters c ON c.tenant_id = t.id AND c.metric = m.key AND c.period_start = p.start
  LEFT JOIN tenancy.plan_limits l ON l.plan = t.plan AND l.metric = m.key
  LEFT JOIN tenancy.limit_overrides o ON o.tenant_id = t.id AND o.metric = m.key
 CROSS JOIN LATERAL tenancy.limit_in_force(v.limit_value, v.soft, v.override_value, v.override_soft, v.override_until, $3) f
 WHERE t.id = $1 AND m.key = $2
