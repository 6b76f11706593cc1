SELECT c.metric, c.used
  FROM tenancy.usage_counters c JOIN tenancy.metrics m ON m.key = c.metric
 WHERE c.tenant_id = $1 AND c.period_start = tenancy.usage_period(m.reset, now())
 ORDER BY m.position, m.key
   FOR UPDATE OF c
