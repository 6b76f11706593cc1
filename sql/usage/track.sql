SELECT outcome AS "outcome!", amount AS "amount!", used AS "used!", limit_value,
       nullif(period_start, '-infinity') AS period_start
  FROM tenancy.track_usage($1, $2, $3, $4, $5, $6)
