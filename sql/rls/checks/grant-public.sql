-- id: grant-public
-- title: PUBLIC holds rights on a tenant table
-- severity: warning
-- why: Every login of the cluster holds them too, and each role that is made: only policies stand between them and the rows.
-- fix: Revoke everything from PUBLIC; grant to the application role by name.
-- example: GRANT SELECT ON public.events TO PUBLIC;
-- example: SELECT * FROM public.events;  -- as any role whatsoever: what the policies for PUBLIC let through
WITH acl AS (
    SELECT c.oid, c.relacl AS acl, NULL::name AS field FROM pg_class c WHERE c.oid = ANY ($1::oid[])
    UNION ALL
    SELECT f.attrelid, f.attacl, f.attname FROM pg_attribute f
     WHERE f.attacl IS NOT NULL AND f.attnum > 0 AND NOT f.attisdropped AND f.attrelid = ANY ($1::oid[])
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       'every role of the cluster, whatever it is for, holds rights on the table' AS message,
       format('PUBLIC holds %s', string_agg(DISTINCT x.privilege_type || coalesce(' (' || quote_ident(a.field) || ')', ''), ', ')) AS evidence,
       format('REVOKE ALL ON %I.%I FROM PUBLIC;', n.nspname, c.relname) AS fix,
       NULL::text AS severity
  FROM acl a
 CROSS JOIN LATERAL aclexplode(a.acl) x
  JOIN unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) ON t.oid = a.oid
  JOIN pg_class c ON c.oid = a.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 -- The other privileges have checks of their own.
 WHERE t.reachable AND x.grantee = 0 AND x.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
 GROUP BY c.oid, n.nspname
