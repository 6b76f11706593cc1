-- The metrics that something is counted of already.
SELECT m.key FROM tenancy.metrics m
 WHERE EXISTS (SELECT FROM tenancy.usage_counters c WHERE c.metric = m.key)
