SELECT tenancy.forget_dropped_tables() AS "count!"
