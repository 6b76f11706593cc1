-- id: rls-disabled
-- title: Row-level security is off on a table that the application role can reach
-- severity: error
-- why: Without row-level security every policy on the table is ignored, and each tenant reads and writes all rows.
-- fix: Enable and force row-level security, and create the tenant policies (`rls setup` does it).
-- example: CREATE TABLE public.events (tenant_id uuid, title text);
-- example: GRANT SELECT ON public.events TO tenancy_app;
-- example: SELECT * FROM public.events;  -- as the application: all rows
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       CASE WHEN c.relkind = 'f'
            THEN 'a foreign table cannot have row-level security, and the application role can reach it'
            WHEN EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
            THEN 'row-level security is off although the table has policies: they are ignored'
            ELSE 'row-level security is off' END AS message,
       format('relrowsecurity is false; tenant column %I', t.tenant_column) AS evidence,
       CASE WHEN c.relkind = 'f' THEN format('REVOKE ALL ON %I.%I FROM PUBLIC, %I;', n.nspname, c.relname, $6::regrole::text)
            ELSE format('ALTER TABLE %1$I.%2$I ENABLE ROW LEVEL SECURITY; ALTER TABLE %1$I.%2$I FORCE ROW LEVEL SECURITY;',
                        n.nspname, c.relname) END AS fix,
       NULL::text AS severity
  FROM unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE t.reachable AND NOT c.relrowsecurity
   -- Partitions and children of tenant tables: partition-open.
   AND NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent = ANY ($1::oid[]))
