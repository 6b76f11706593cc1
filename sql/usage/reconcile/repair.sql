-- The truth is asked for again under the counters' locks, which everybody who uses something holds until their transaction
-- ends: what they wrote shows, or they have not counted it yet.
WITH drift AS MATERIALIZED (
    SELECT d.* FROM tenancy.usage_drift($1, $2) d
), truth AS (
    SELECT d.* FROM drift d
      JOIN unnest($3::uuid[], $4::text[], $5::text[]::timestamptz[]) x (tenant, metric, period)
        ON d.tenant_id = x.tenant AND d.metric = x.metric AND d.period_start = x.period
), moved AS (
    UPDATE tenancy.usage_counters c SET used = truth.actual, updated_at = now()
      FROM truth
     WHERE c.tenant_id = truth.tenant_id AND c.metric = truth.metric AND c.period_start = truth.period_start
), kept AS (
    INSERT INTO tenancy.usage_corrections (tenant_id, metric, period_start, amount, before, after, reason)
    SELECT t.tenant_id, t.metric, t.period_start, t.lacking, t.counted, t.actual, 'reconciled with ' || t.basis FROM truth t
)
SELECT d.tenant_id, coalesce(t.slug, '') AS "slug!", m.unit, d.metric AS "metric!", nullif(d.period_start, '-infinity') AS period_start,
       d.counted AS "counted!", d.actual AS "actual!", d.basis AS "basis!", d.table_name, d.failure, d.counters AS "counters!"
  FROM (SELECT * FROM truth UNION ALL SELECT * FROM drift WHERE failure IS NOT NULL) d
  JOIN tenancy.metrics m ON m.key = d.metric
  LEFT JOIN tenancy.tenants t ON t.id = d.tenant_id
 WHERE d.failure IS NOT NULL OR t.id IS NOT NULL
 ORDER BY t.slug, m.position, d.metric, d.period_start, d.table_name
