-- What a forecast starts from: what is used of the limit in force, until when the period lasts, and when the first use was
-- that is known of.
SELECT coalesce(c.used, 0) AS "used!", f.limit_value, nullif(p.start, '-infinity') AS period_start,
       CASE m.reset WHEN 'daily' THEN p.start + interval '24 hours'
                    WHEN 'monthly' THEN tenancy.month_anchor(
                        date_trunc('month', p.start AT TIME ZONE 'UTC') + interval '1 month',
                        coalesce(t.anchor_day, m.anchor_day)) AT TIME ZONE 'UTC' END AS period_end,
       m.aggregation AS "aggregation!", m.reset AS "reset!", now() AS "now!",
       least((SELECT min((e.occurred_at AT TIME ZONE 'UTC')::date) FROM tenancy.usage_events e
               WHERE e.tenant_id = t.id AND e.metric = m.key AND e.occurred_at < now()),
             (SELECT min(d.day) FROM tenancy.usage_days d WHERE d.tenant_id = t.id AND d.metric = m.key)) AS first
  FROM tenancy.limit_layers v
  JOIN tenancy.tenants t ON t.id = v.tenant_id
  JOIN tenancy.metrics m ON m.key = v.metric
 CROSS JOIN LATERAL tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now()) p (start)
  LEFT JOIN tenancy.usage_counters c ON c.tenant_id = t.id AND c.metric = m.key AND c.period_start = p.start
 CROSS JOIN LATERAL tenancy.limit_in_force(v.limit_value, v.soft, v.override_value, v.override_soft, v.override_until, $3) f
 WHERE t.id = $1 AND m.key = $2
