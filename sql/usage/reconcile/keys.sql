-- The keys of the counters that drifted.
SELECT coalesce(array_agg(d.tenant_id), '{}') AS "tenants!", coalesce(array_agg(d.metric), '{}') AS "metrics!",
       coalesce(array_agg(d.period_start::text), '{}') AS "periods!"
  FROM tenancy.usage_drift($1, $2) d
 WHERE d.failure IS NULL
