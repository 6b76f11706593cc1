SELECT tenancy.read_plan_limits() IS NULL AS "done!"
