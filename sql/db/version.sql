SELECT coalesce(max(version), 0) AS "version!" FROM tenancy._sqlx_migrations WHERE success
