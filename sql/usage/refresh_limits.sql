SELECT tenancy.refresh_limits($1) IS NULL AS "done!"
