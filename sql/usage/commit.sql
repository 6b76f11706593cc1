SELECT outcome AS "outcome!", metric AS "metric!", amount AS "amount!", used AS "used!", limit_value,
       nullif(period_start, '-infinity') AS period_start
  FROM tenancy.commit_usage($1, $2, $3)
