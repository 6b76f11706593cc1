-- id: extension-table-open
-- title: The application role writes to an extension's table, and reads everybody's rows of it
-- severity: warning
-- why: What one tenant's request leaves there (a job, a message, a log line) is read and changed by any other.
-- fix: Revoke the rights on the table, and hand out what is needed through a function that looks at the tenant.
-- example: GRANT SELECT, INSERT ON queue.jobs TO tenancy_app;  -- queue is an extension
-- example: SELECT * FROM queue.jobs;  -- as the application: the jobs of every tenant, with what is in them
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       format('the table of extension %I keeps no tenants apart, and the application reads and writes it', e.extname) AS message,
       format('SELECT held through %s, writing through %s', string_agg(DISTINCT r.rolname, ', ') FILTER (WHERE p.reads),
              string_agg(DISTINCT r.rolname, ', ') FILTER (WHERE p.writes)) AS evidence,
       format('REVOKE ALL ON %I.%I FROM PUBLIC, %s;', n.nspname, c.relname, string_agg(DISTINCT quote_ident(r.rolname), ', ')) AS fix,
       NULL::text AS severity
  FROM pg_depend d
  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid
  JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles r ON r.oid = ANY ($4::oid[]) AND NOT r.rolsuper AND NOT r.rolbypassrls
 CROSS JOIN LATERAL (
        SELECT has_table_privilege(r.oid, c.oid, 'SELECT') OR has_any_column_privilege(r.oid, c.oid, 'SELECT') AS reads,
               has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE')
               OR has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE') AS writes
       ) p
 WHERE d.deptype = 'e' AND c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't' AND NOT c.relrowsecurity
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND c.oid <> ALL ($1::oid[]) AND c.oid <> ALL ($7::oid[])
   AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND (p.reads OR p.writes)
 GROUP BY c.oid, n.nspname, e.extname
HAVING bool_or(p.reads) AND bool_or(p.writes)
