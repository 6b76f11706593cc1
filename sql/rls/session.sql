-- Who runs the verification, on what server, and whether the control plane is there.
SELECT current_setting('server_version') AS server_version,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS citus,
       to_regclass('tenancy.protected_tables') IS NOT NULL AS has_registry,
       to_regproc('tenancy.role_name') IS NOT NULL AS has_role_name,
       pg_is_in_recovery() AS in_recovery,
       r.rolsuper OR r.rolbypassrls AS privileged
  FROM pg_roles r WHERE r.rolname = current_user
