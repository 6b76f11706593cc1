-- The metrics that something is counted of already, or a table is metered for.
SELECT m.key FROM tenancy.metrics m
 WHERE EXISTS (SELECT FROM tenancy.usage_counters c WHERE c.metric = m.key)
    OR EXISTS (SELECT FROM tenancy.usage_meters u WHERE u.metric = m.key)
