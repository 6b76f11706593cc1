SELECT a.admitted AS "admitted!", a.used AS "used!", a.limit_value
  FROM tenancy.metrics m
  JOIN tenancy.tenants t ON t.id = $1
 CROSS JOIN LATERAL tenancy.admit_usage(t.id, m.key, $3,
           tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now()), $4, m.aggregation) a
 WHERE m.key = $2 AND m.source = 'memberships'
