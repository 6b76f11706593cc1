SELECT d.tenant_id AS "tenant_id!", t.slug, m.unit, d.metric AS "metric!", nullif(d.period_start, '-infinity') AS period_start,
       d.counted AS "counted!", d.actual AS "actual!", d.basis AS "basis!"
  FROM tenancy.repair_usage($1, $2) d
  JOIN tenancy.tenants t ON t.id = d.tenant_id
  JOIN tenancy.metrics m ON m.key = d.metric
 ORDER BY t.slug, m.position, d.metric, d.period_start
