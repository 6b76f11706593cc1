SELECT key, name, unit, kind, reset, aggregation, source, default_limit, default_soft, anchor_day
  FROM tenancy.metrics
 ORDER BY position, key
