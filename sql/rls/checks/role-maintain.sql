-- id: role-maintain
-- title: The application role may maintain tenant tables
-- severity: note
-- why: VACUUM FULL, CLUSTER, REINDEX and LOCK TABLE keep every tenant out while they run, and ask no policy.
-- fix: Revoke MAINTAIN; let maintenance log in with a role of its own.
-- example: GRANT MAINTAIN ON public.events TO tenancy_app;  -- PostgreSQL 17 and later
-- example: BEGIN; LOCK TABLE public.events;  -- as the application: every tenant waits
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       'the application may lock every tenant out of the table' AS message,
       format('MAINTAIN held through %s', string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ', ')) AS evidence,
       format('REVOKE MAINTAIN ON %I.%I FROM %s;', n.nspname, c.relname,
              string_agg(DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC'), ', ')) AS fix,
       NULL::text AS severity
  FROM unnest($1::oid[], $3::boolean[]) AS t(oid, reachable)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL aclexplode(c.relacl) a
  LEFT JOIN pg_roles r ON r.oid = a.grantee
 WHERE a.privilege_type = 'MAINTAIN' AND a.grantee <> c.relowner
   AND (a.grantee = 0 OR (a.grantee = ANY ($4::oid[]) AND NOT r.rolsuper))
 GROUP BY c.oid, n.nspname
UNION ALL
SELECT NULL, format('%I', p.rolname), 'role', '',
       format('the application has the rights of %I: it may lock every tenant out of every table', p.rolname),
       format('granted to %s', string_agg(DISTINCT quote_ident(m.rolname), ', ')),
       format('REVOKE %I FROM %s;', p.rolname, string_agg(DISTINCT quote_ident(m.rolname), ', ')),
       NULL
  FROM pg_roles p
  JOIN pg_auth_members e ON e.roleid = p.oid
  JOIN pg_roles m ON m.oid = e.member
 WHERE p.rolname = 'pg_maintain' AND p.oid = ANY ($4::oid[]) AND m.oid = ANY ($4::oid[]) AND NOT m.rolsuper
 GROUP BY p.rolname
