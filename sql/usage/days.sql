-- Every day from $3 to $4, in UTC: what the ledger has of it, what is kept by day alone, and what was put right.
WITH used AS (
    SELECT (e.occurred_at AT TIME ZONE 'UTC')::date AS day, e.amount, 1::bigint AS events
      FROM tenancy.usage_events e
     WHERE e.tenant_id = $1 AND e.metric = $2
       AND e.occurred_at >= $3::date::timestamp AT TIME ZONE 'UTC'
       AND e.occurred_at < ($4::date + 1)::timestamp AT TIME ZONE 'UTC'
     UNION ALL
    SELECT d.day, d.amount, d.events
      FROM tenancy.usage_days d
     WHERE d.tenant_id = $1 AND d.metric = $2 AND d.day BETWEEN $3 AND $4
     UNION ALL
    SELECT (k.at AT TIME ZONE 'UTC')::date, k.amount, 0
      FROM tenancy.usage_corrections k JOIN tenancy.metrics m ON m.key = k.metric AND m.aggregation = 'sum'
     WHERE k.tenant_id = $1 AND k.metric = $2 AND (k.at AT TIME ZONE 'UTC')::date BETWEEN $3 AND $4
)
SELECT $3::date + n AS "day!",
       coalesce(CASE m.aggregation WHEN 'max' THEN max(u.amount) ELSE sum(u.amount) END, 0)::bigint AS "amount!",
       coalesce(sum(u.events), 0)::bigint AS "events!"
  FROM generate_series(0, $4::date - $3::date) n
  JOIN tenancy.metrics m ON m.key = $2
  LEFT JOIN used u ON u.day = $3::date + n
 GROUP BY n, m.aggregation
 ORDER BY n
