-- id: new-table-guard
-- title: New tables open up to the application role, and nothing protects them
-- severity: note
-- why: Default privileges hand the next CREATE TABLE to every tenant, before anybody thought of a policy.
-- fix: Let an event trigger protect new tables (`rls setup` makes one), or revoke the default privileges and grant table by table.
-- example: ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO tenancy_app;
-- example: CREATE TABLE public.invoices (tenant_id uuid, total int);  -- by a migration: all rows are everybody's from the start
WITH guard AS (
    SELECT t.evtname, t.evtenabled
      FROM pg_event_trigger t
      JOIN pg_proc f ON f.oid = t.evtfoid
      JOIN pg_namespace n ON n.oid = f.pronamespace
     WHERE n.nspname = 'tenancy_guard' OR f.prosrc ~* 'row level security'
)
SELECT NULL::oid AS relation, format('%I', g.evtname) AS object, 'event trigger' AS object_kind, '' AS detail,
       'the trigger that protects new tables is switched off' AS message,
       format('evtenabled is %s', g.evtenabled) AS evidence,
       format('ALTER EVENT TRIGGER %I ENABLE;', g.evtname) AS fix, NULL::text AS severity
  FROM guard g
 WHERE g.evtenabled NOT IN ('O', 'A')
UNION ALL
SELECT NULL, quote_ident(coalesce(n.nspname, o.rolname)),
       CASE WHEN n.oid IS NULL THEN 'role' ELSE 'schema' END, o.rolname,
       format('tables that %I creates open up to the application role, and no event trigger protects them', o.rolname),
       format('default privileges: %s for %s', string_agg(DISTINCT a.privilege_type, ', '), string_agg(DISTINCT quote_ident(g.rolname), ', ')),
       format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON TABLES FROM %s;', o.rolname,
              CASE WHEN n.oid IS NULL THEN '' ELSE format(' IN SCHEMA %I', n.nspname) END,
              string_agg(DISTINCT a.privilege_type, ', '), string_agg(DISTINCT quote_ident(g.rolname), ', ')),
       NULL
  FROM pg_default_acl d
  JOIN pg_roles o ON o.oid = d.defaclrole
  LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
 CROSS JOIN LATERAL aclexplode(d.defaclacl) a
  JOIN pg_roles g ON g.oid = a.grantee
 WHERE d.defaclobjtype = 'r' AND a.grantee = ANY ($4::oid[]) AND a.grantee <> d.defaclrole AND NOT g.rolsuper
   AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
   AND (n.oid IS NULL OR (n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'))
   AND NOT EXISTS (SELECT FROM guard)
 GROUP BY n.oid, n.nspname, o.rolname
