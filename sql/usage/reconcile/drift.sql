-- Counters that drifted, and meters that cannot be read, which have no tenant.
SELECT d.tenant_id, coalesce(t.slug, '') AS "slug!", m.unit, d.metric AS "metric!", nullif(d.period_start, '-infinity') AS period_start,
       d.counted AS "counted!", d.actual AS "actual!", d.basis AS "basis!", d.table_name, d.failure, d.counters AS "counters!"
  FROM tenancy.usage_drift($1, $2) d
  JOIN tenancy.metrics m ON m.key = d.metric
  LEFT JOIN tenancy.tenants t ON t.id = d.tenant_id
 WHERE d.failure IS NOT NULL OR t.id IS NOT NULL
 ORDER BY t.slug, m.position, d.metric, d.period_start, d.table_name
