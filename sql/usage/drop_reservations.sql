SELECT tenancy.drop_usage_reservations(make_interval(secs => $1)) AS "gone!"
