-- id: grant-trigger
-- title: The application role may create triggers on a tenant table
-- severity: error
-- why: A trigger runs for every tenant's writes: its function reads their rows, and acts as whoever writes them.
-- fix: Revoke TRIGGER; grant SELECT, INSERT, UPDATE and DELETE by name, never ALL.
-- example: GRANT ALL ON public.events TO tenancy_app;
-- example: CREATE TRIGGER spy AFTER INSERT ON public.events FOR EACH ROW EXECUTE FUNCTION pg_temp.spy();  -- as the application: sees every tenant's new rows
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       'a trigger on the table runs on other tenants'' rows, and the application role may create one' AS message,
       format('TRIGGER held through %s', string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ', ')) AS evidence,
       format('REVOKE TRIGGER ON %I.%I FROM %s;', n.nspname, c.relname,
              string_agg(DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC'), ', ')) AS fix,
       NULL::text AS severity
  FROM unnest($1::oid[], $3::boolean[]) AS t(oid, reachable)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL aclexplode(c.relacl) a
  LEFT JOIN pg_roles r ON r.oid = a.grantee
 WHERE t.reachable AND a.privilege_type = 'TRIGGER' AND a.grantee <> c.relowner
   AND (a.grantee = 0 OR (a.grantee = ANY ($4::oid[]) AND NOT r.rolsuper))
 GROUP BY c.oid, n.nspname
