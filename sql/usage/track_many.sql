SELECT ord AS "ord!", outcome AS "outcome!", used, limit_value, nullif(period_start, '-infinity') AS period_start
  FROM tenancy.track_usages($1, $2, $3, $4, $5, $6, $7, $8)
