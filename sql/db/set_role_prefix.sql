SELECT pg_catalog.set_config('tenancy.role_prefix', $1, true)
