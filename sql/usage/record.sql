SELECT ord AS "ord!", outcome AS "outcome!", used, limit_value, nullif(period_start, '-infinity') AS period_start
  FROM tenancy.record_usage($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
