-- id: foreign-table
-- title: The application role reads through a foreign table or server
-- severity: error
-- why: No policy binds a foreign table: the other side sees the login of the user mapping, and gives whatever that may read.
-- fix: Revoke the privilege, and hand rows out through a function or view that filters by the tenant; or declare the table shared.
-- example: CREATE FOREIGN TABLE public.invoices (tenant_id uuid, total numeric) SERVER billing;
-- example: GRANT SELECT ON public.invoices TO tenancy_app;
-- example: SELECT * FROM public.invoices;  -- as the application: every tenant's invoices, as the login of the mapping
WITH mapping AS (
    SELECT m.srvid, string_agg(DISTINCT CASE WHEN m.umuser = 0 THEN 'PUBLIC' ELSE m.usename::text END, ', ') AS users
      FROM pg_user_mappings m WHERE m.umuser = 0 OR m.umuser = ANY ($4::oid[]) GROUP BY m.srvid
),
granted AS (
    SELECT c.oid, c.relname, n.nspname, s.oid AS server, s.srvname, w.fdwname,
           string_agg(DISTINCT r.rolname, ', ') AS holders, string_agg(DISTINCT quote_ident(r.rolname), ', ') AS quoted
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_foreign_table f ON f.ftrelid = c.oid
      JOIN pg_foreign_server s ON s.oid = f.ftserver
      JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
      JOIN pg_roles r ON r.oid = ANY ($4::oid[])
     WHERE c.oid <> ALL ($7::oid[]) AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
       AND has_schema_privilege(r.oid, n.oid, 'USAGE')
       AND (has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
            OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE'))
     GROUP BY c.oid, n.nspname, s.oid, w.fdwname
)
SELECT g.oid AS relation, format('%I.%I', g.nspname, g.relname) AS object, 'foreign table' AS object_kind, '' AS detail,
       format('reads server %I with the rights of a login there, whatever tenant is in context', g.srvname) AS message,
       format('wrapper %I, granted to %s%s', g.fdwname, g.holders, coalesce('; user mapping for ' || m.users, '')) AS evidence,
       format('REVOKE ALL ON %I.%I FROM PUBLIC, %s;', g.nspname, g.relname, g.quoted) AS fix,
       NULL::text AS severity
  FROM granted g LEFT JOIN mapping m ON m.srvid = g.server
UNION ALL
-- With USAGE on the server the role can lay tables and mappings of its own on it.
SELECT NULL, format('%I', s.srvname), 'foreign server', '',
       format('the application role may use server %I, and lay tables and logins of its own on it', s.srvname),
       format('USAGE held through %s%s', string_agg(DISTINCT r.rolname, ', '), coalesce('; user mapping for ' || min(m.users), '')),
       format('REVOKE USAGE ON FOREIGN SERVER %I FROM PUBLIC, %s;', s.srvname, string_agg(DISTINCT quote_ident(r.rolname), ', ')),
       'warning'
  FROM pg_foreign_server s
  JOIN pg_roles r ON r.oid = ANY ($4::oid[]) AND NOT r.rolsuper
  LEFT JOIN mapping m ON m.srvid = s.oid
 WHERE has_server_privilege(r.oid, s.oid, 'USAGE')
 GROUP BY s.oid, s.srvname
