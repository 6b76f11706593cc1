-- id: role-createrole
-- title: The application role is, or can become, a role with CREATEROLE
-- severity: error
-- why: Before PostgreSQL 16 CREATEROLE grants itself any role but a superuser, the tables' owner too; since then it still makes logins.
-- fix: Take the attribute from the role.
-- example: ALTER ROLE tenancy_app CREATEROLE;
-- example: GRANT tenancy_owner TO tenancy_app;  -- as the application, on PostgreSQL 15: accepted, and the owner can switch policies off
SELECT NULL::oid AS relation, format('%I', r.rolname) AS object, 'role' AS object_kind, '' AS detail,
       CASE WHEN r.oid = $6 THEN 'the application role may '
            ELSE format('the application can become %I, which may ', r.rolname) END
       || CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'grant itself any role that is no superuser'
               ELSE 'create roles, logins too' END AS message,
       'rolcreaterole is true' AS evidence,
       format('ALTER ROLE %I NOCREATEROLE;', r.rolname) AS fix,
       CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'warning' END AS severity
  FROM pg_roles r
 WHERE r.oid = ANY ($5::oid[]) AND r.rolcreaterole AND NOT r.rolsuper
