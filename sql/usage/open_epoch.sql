SELECT tenancy.open_usage_epoch(make_interval(secs => $1)) AS "opened!"
