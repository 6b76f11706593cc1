-- id: verifier-privileged
-- title: The role under attack bypasses row-level security: nothing was proven
-- severity: error
-- why: A role that no policy applies to cannot show that a policy holds. Whatever the probes saw says nothing.
-- fix: Name the role that the application runs as, and take SUPERUSER and BYPASSRLS from it.
-- example: ALTER ROLE tenancy_app BYPASSRLS;
-- example: SELECT * FROM public.events;  -- as the application: all rows, so silence of a probe would prove nothing
SELECT NULL::oid AS relation, format('%I', r.rolname) AS object, 'role' AS object_kind, '' AS detail,
       'the role under attack bypasses row-level security: nothing was proven for it' AS message,
       concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END) AS evidence,
       format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS;', r.rolname) AS fix,
       NULL::text AS severity
  FROM pg_roles r
 WHERE r.oid = $6 AND (r.rolsuper OR r.rolbypassrls)
