-- id: partition-open
-- title: A partition or inheritance child can be reached past the policies of its parent
-- severity: error
-- why: Policies of the parent count for queries of the parent; a partition that is named in the query has only its own.
-- fix: Revoke the rights on the partition (the parent's are enough), or protect it in its own right.
-- example: GRANT SELECT ON public.events_2026 TO tenancy_app;
-- example: SELECT * FROM public.events_2026;  -- as the application: all rows of that partition
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       format('row-level security is off on a %s of %s that the application role can reach directly',
              CASE WHEN c.relispartition THEN 'partition' ELSE 'child' END,
              string_agg(DISTINCT format('%I.%I', m.nspname, p.relname), ', ')) AS message,
       format('relrowsecurity is false; tenant column %I', t.tenant_column) AS evidence,
       CASE WHEN c.relkind = 'f'
            THEN format('REVOKE ALL ON %I.%I FROM PUBLIC, %s;', n.nspname, c.relname,
                        (SELECT string_agg(quote_ident(r.rolname), ', ') FROM pg_roles r WHERE r.oid = ANY ($4::oid[]) AND NOT r.rolsuper))
            ELSE format('ALTER TABLE %1$I.%2$I ENABLE ROW LEVEL SECURITY; ALTER TABLE %1$I.%2$I FORCE ROW LEVEL SECURITY;',
                        n.nspname, c.relname) END AS fix,
       NULL::text AS severity
  FROM unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_inherits i ON i.inhrelid = c.oid
  JOIN pg_class p ON p.oid = i.inhparent
  JOIN pg_namespace m ON m.oid = p.relnamespace
 WHERE t.reachable AND NOT c.relrowsecurity AND i.inhparent = ANY ($1::oid[])
 GROUP BY c.oid, n.nspname, t.tenant_column
