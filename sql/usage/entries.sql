SELECT e.key, e.amount, e.occurred_at, e.recorded_at, e.used, e.limit_value, nullif(e.period_start, '-infinity') AS period_start
  FROM tenancy.usage_events e
 WHERE e.tenant_id = $1 AND e.metric = $2
   AND ($3::timestamptz IS NULL OR e.occurred_at >= $3) AND ($4::timestamptz IS NULL OR e.occurred_at < $4)
 ORDER BY e.occurred_at DESC, e.recorded_at DESC, e.used DESC
 LIMIT $5
