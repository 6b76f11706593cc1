SELECT l.plan, l.metric, m.unit, l.limit_value, l.soft
  FROM tenancy.plan_limits l JOIN tenancy.metrics m ON m.key = l.metric
 ORDER BY m.position, m.key
