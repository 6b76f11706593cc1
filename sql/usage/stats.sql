SELECT m.key AS metric, m.unit, coalesce(c.used, 0) AS "used!", f.limit_value, f.soft AS "soft!",
       coalesce(f.source, v.source) AS "source!", nullif(p.start, '-infinity') AS period_start
  FROM tenancy.tenants t
  JOIN tenancy.limit_layers v ON v.tenant_id = t.id
  JOIN tenancy.metrics m ON m.key = v.metric
 CROSS JOIN LATERAL tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now()) p (start)
  LEFT JOIN tenancy.usage_counters c ON c.tenant_id = t.id AND c.metric = m.key AND c.period_start = p.start
  LEFT JOIN unnest($2::text[], $3::bigint[]) e (metric, limit_value) ON e.metric = m.key
 CROSS JOIN LATERAL tenancy.limit_in_force(v.limit_value, v.soft, v.override_value, v.override_soft, v.override_until,
                                           e.limit_value) f
 WHERE t.id = $1
 ORDER BY m.position, m.key
