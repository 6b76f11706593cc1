SELECT tenancy.drop_usage_epoch($1) AS "events!"
