SELECT t.slug, m.key AS metric, m.unit, o.limit_value, o.soft, o.expires_at, coalesce(o.expires_at <= now(), false) AS "expired!",
       o.reason, o.actor, o.created_at, coalesce(c.used, 0) AS "used!"
  FROM tenancy.limit_overrides o
  JOIN tenancy.tenants t ON t.id = o.tenant_id
  JOIN tenancy.metrics m ON m.key = o.metric
  LEFT JOIN tenancy.usage_counters c ON c.tenant_id = t.id AND c.metric = m.key
   AND c.period_start = tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now())
 WHERE ($1::uuid IS NULL AND t.status <> 'deleted' OR t.id = $1) AND ($2::text IS NULL OR m.key = $2)
 ORDER BY t.slug, m.position, m.key
