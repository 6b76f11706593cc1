-- id: grant-truncate
-- title: The application role may TRUNCATE a tenant table
-- severity: error
-- why: TRUNCATE does not look at policies: one tenant empties the table for all.
-- fix: Revoke TRUNCATE; grant SELECT, INSERT, UPDATE and DELETE by name, never ALL.
-- example: GRANT ALL ON public.events TO tenancy_app;
-- example: TRUNCATE public.events;  -- as the application, in any tenant: the table is empty for all
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       'TRUNCATE passes row-level security by, and the application holds it' AS message,
       format('TRUNCATE held through %s', string_agg(DISTINCT r.rolname, ', ')) AS evidence,
       format('REVOKE TRUNCATE ON %I.%I FROM PUBLIC, %s;', n.nspname, c.relname,
              string_agg(DISTINCT quote_ident(r.rolname), ', ')) AS fix,
       NULL::text AS severity
  FROM unnest($1::oid[]) AS t(oid)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles r ON r.oid = ANY ($4::oid[])
 WHERE NOT r.rolsuper AND NOT pg_has_role(r.oid, c.relowner, 'USAGE')
   AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, c.oid, 'TRUNCATE')
 GROUP BY c.oid, n.nspname
