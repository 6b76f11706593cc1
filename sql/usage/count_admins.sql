SELECT a.admitted AS "admitted!", a.used AS "used!", a.limit_value
  FROM tenancy.metrics m
 CROSS JOIN LATERAL tenancy.admit_usage($1, m.key, $3, tenancy.usage_period(m.reset, now()), $4) a
 WHERE m.key = $2 AND m.source = 'memberships'
