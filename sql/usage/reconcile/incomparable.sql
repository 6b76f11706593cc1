-- Counters that nothing says the truth about, apart from those whose tables cannot be read: how many of a metric, and whether
-- that is because its tables are gone.
SELECT m.key AS "metric!", m.source = 'meter' AND m.kind = 'gauge' AS "gone!", count(*) AS "counters!"
  FROM tenancy.usage_recorded($1, $2) r
  JOIN tenancy.metrics m ON m.key = r.metric
 WHERE CASE WHEN m.source = 'memberships' THEN false
            WHEN m.source = 'meter' AND m.kind = 'gauge' THEN NOT EXISTS (
                SELECT FROM tenancy.usage_meters u JOIN pg_catalog.pg_class k ON k.oid = u.relation WHERE u.metric = m.key)
            ELSE r.amount IS NULL END
 GROUP BY 1, 2
 ORDER BY 1
