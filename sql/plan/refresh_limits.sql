SELECT tenancy.refresh_plan_limits($1, $2) AS "changed!"
