-- id: role-bypassrls
-- title: The application role is, or can become, a role with BYPASSRLS
-- severity: error
-- why: BYPASSRLS passes every policy by, forced or not; SET ROLE is one statement away, for NOINHERIT members too.
-- fix: Take the attribute from the role, or the membership from the application role.
-- example: GRANT reporting TO tenancy_app;  -- reporting has BYPASSRLS
-- example: SET ROLE reporting; SELECT * FROM public.events;  -- as the application: all rows
SELECT NULL::oid AS relation, format('%I', r.rolname) AS object, 'role' AS object_kind, '' AS detail,
       CASE WHEN r.oid = $6 THEN 'the application role has BYPASSRLS'
            ELSE format('%s can become %I, which has BYPASSRLS', $6::regrole::text, r.rolname) END AS message,
       format('rolbypassrls is true on %I', r.rolname) AS evidence,
       CASE WHEN r.oid = $6 THEN format('ALTER ROLE %I NOBYPASSRLS;', r.rolname)
            ELSE format('REVOKE %I FROM %s;', r.rolname, $6::regrole::text) END AS fix,
       NULL::text AS severity, ARRAY['role ' || r.oid] AS path
  FROM pg_roles r
 WHERE r.oid = ANY ($5::oid[]) AND r.rolbypassrls
