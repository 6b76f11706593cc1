-- id: bypass-unregistered
-- title: A login that nobody declared sees every tenant's rows
-- severity: warning
-- why: No policy binds it; whoever gets its password has all tenants, and nobody counts on it.
-- fix: Take the attribute away, or declare the login: a member of the admin role, or `admin_roles` of the contract.
-- example: CREATE ROLE old_backup LOGIN BYPASSRLS PASSWORD 'backup'; GRANT SELECT ON public.events TO old_backup;
-- example: SELECT * FROM public.events;  -- logged in as old_backup: all rows
SELECT NULL::oid AS relation, format('%I', r.rolname) AS object, 'role' AS object_kind, '' AS detail,
       format('the login has %s, and nobody declared that it may cross tenants',
              CASE WHEN r.rolsuper THEN 'SUPERUSER' ELSE 'BYPASSRLS' END) AS message,
       format('rolcanlogin and %s are true', CASE WHEN r.rolsuper THEN 'rolsuper' ELSE 'rolbypassrls' END) AS evidence,
       format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS;', r.rolname) AS fix,
       NULL::text AS severity
  FROM pg_roles r
 WHERE r.rolcanlogin AND (r.rolsuper OR r.rolbypassrls)
   -- The bootstrap superuser is there in every cluster; who verifies is known; what the application reaches has checks of
   -- its own.
   AND r.oid <> 10 AND r.rolname NOT IN (session_user, current_user) AND r.oid <> ALL ($4::oid[])
   AND r.oid <> ALL ($10::oid[])
   AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = ANY ($10::oid[] || $6))
   AND (r.rolsuper OR NOT pg_has_role(r.oid, $6::oid, 'MEMBER'))
   -- Those that the hosters of managed databases keep for themselves.
   AND r.rolname !~ '^(rds|aws|azure|cloudsql|alloydb|supabase|neon|aiven|crunchy|timescale|tsdb|heroku|doadmin|_do)'
   AND r.rolname NOT IN ('postgres', 'authenticator', 'service_role', 'pgbouncer', 'cloud_admin', 'avnadmin')
   -- BYPASSRLS alone grants no table.
   AND (r.rolsuper
        OR (has_database_privilege(r.oid, current_database(), 'CONNECT')
            AND EXISTS (SELECT FROM unnest($1::oid[]) AS t(oid) JOIN pg_class c ON c.oid = t.oid
                         WHERE has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
                           AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE'))))
