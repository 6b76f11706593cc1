SELECT tenancy.old_usage_epochs(make_interval(secs => $1)) AS "epoch!"
