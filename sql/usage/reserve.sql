SELECT outcome AS "outcome!", reservation, amount AS "amount!", used AS "used!", limit_value,
       nullif(period_start, '-infinity') AS period_start, expires_at, state
  FROM tenancy.reserve_usage($1, $2, $3, make_interval(secs => $4), $5, $6)
