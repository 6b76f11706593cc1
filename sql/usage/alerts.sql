SELECT a.id, t.slug, m.key AS metric, m.unit, a.threshold, a.used, a.limit_value, nullif(a.period_start, '-infinity') AS period_start,
       a.crossed_at
  FROM tenancy.usage_alerts a
  JOIN tenancy.tenants t ON t.id = a.tenant_id
  JOIN tenancy.metrics m ON m.key = a.metric
 WHERE ($1::uuid IS NULL AND t.status <> 'deleted' OR t.id = $1) AND ($2::text IS NULL OR m.key = $2)
   AND ($3::timestamptz IS NULL OR a.crossed_at >= $3)
 ORDER BY a.crossed_at DESC, a.id DESC
