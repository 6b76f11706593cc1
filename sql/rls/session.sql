-- Who runs the verification, on what server, and whether the control plane is there.
SELECT current_setting('server_version') AS server_version,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS citus,
       to_regclass('tenancy.protected_tables') IS NOT NULL AS has_registry,
       to_regproc('tenancy.role_name') IS NOT NULL AS has_role_name,
       EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = to_regprocedure('tenancy.current_tenant_id()')
                  AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = to_regprocedure('tenancy.unseal(text)')) AS sealed,
       coalesce(has_function_privilege(to_regprocedure('tenancy.signing_key()'), 'EXECUTE'), false) AS may_sign,
       pg_is_in_recovery() AS in_recovery,
       r.rolsuper OR r.rolbypassrls AS privileged
  FROM pg_roles r WHERE r.rolname = current_user
