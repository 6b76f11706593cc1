-- In the order in which everything locks several counters.
SELECT count(*) AS "locked!"
  FROM (SELECT FROM tenancy.usage_counters c
          JOIN unnest($1::uuid[], $2::text[], $3::text[]::timestamptz[]) x (tenant, metric, period)
            ON c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period
         ORDER BY c.tenant_id, c.metric, c.period_start FOR NO KEY UPDATE OF c) l
