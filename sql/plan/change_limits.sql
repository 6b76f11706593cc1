SELECT tenancy.change_plan_limits() IS NULL AS "done!"
