SELECT m.key AS metric, m.unit
  FROM tenancy.usage_reservations r
  JOIN tenancy.metrics m ON m.key = r.metric
 WHERE r.tenant_id = $1 AND r.id = $2
