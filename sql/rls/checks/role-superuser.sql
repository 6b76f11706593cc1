-- id: role-superuser
-- title: The application role is, or can become, a role with SUPERUSER
-- severity: error
-- why: SUPERUSER passes every policy by, forced or not; SET ROLE is one statement away, for NOINHERIT members too.
-- fix: Take the attribute from the role, or the membership from the application role.
-- example: GRANT postgres TO tenancy_app;
-- example: SET ROLE postgres; SELECT * FROM public.events;  -- as the application: all rows, and everything else
SELECT NULL::oid AS relation, format('%I', r.rolname) AS object, 'role' AS object_kind, '' AS detail,
       CASE WHEN r.oid = $6 THEN 'the application role has SUPERUSER'
            ELSE format('%s can become %I, which has SUPERUSER', $6::regrole::text, r.rolname) END AS message,
       format('rolsuper is true on %I', r.rolname) AS evidence,
       CASE WHEN r.oid = $6 THEN format('ALTER ROLE %I NOSUPERUSER;', r.rolname)
            ELSE format('REVOKE %I FROM %s;', r.rolname, $6::regrole::text) END AS fix,
       NULL::text AS severity, ARRAY['role ' || r.oid] AS path
  FROM pg_roles r
 WHERE r.oid = ANY ($5::oid[]) AND r.rolsuper
