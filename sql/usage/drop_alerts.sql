-- Alerts that are older than usage is kept, but the newest of a threshold that is still reached in a period without an end.
DELETE FROM tenancy.usage_alerts a
 USING tenancy.usage_counters c
 WHERE a.crossed_at < now() - make_interval(secs => $1)
   AND c.tenant_id = a.tenant_id AND c.metric = a.metric AND c.period_start = a.period_start
   AND (a.period_start > '-infinity' OR a.threshold > c.alert_level
        OR EXISTS (SELECT FROM tenancy.usage_alerts n
                    WHERE n.tenant_id = a.tenant_id AND n.metric = a.metric AND n.period_start = a.period_start
                      AND n.threshold = a.threshold AND n.id > a.id))
