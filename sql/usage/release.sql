SELECT released AS "released!", metric AS "metric!", amount AS "amount!", used AS "used!"
  FROM tenancy.release_usage($1, $2)
