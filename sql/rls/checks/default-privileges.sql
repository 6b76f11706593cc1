-- id: default-privileges
-- title: Default privileges open future tables further than row-level security guards
-- severity: warning
-- why: What PUBLIC is granted every role holds, and TRUNCATE, TRIGGER and REFERENCES pass policies by: on each table made from now on.
-- fix: Revoke these defaults; grant SELECT, INSERT, UPDATE and DELETE by name, to the application role.
-- example: ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO tenancy_app;
-- example: TRUNCATE public.invoices;  -- as the application, on a table that the next migration makes: empty for all
SELECT NULL::oid AS relation, quote_ident(coalesce(n.nspname, o.rolname)) AS object,
       CASE WHEN n.oid IS NULL THEN 'role' ELSE 'schema' END AS object_kind, o.rolname AS detail,
       format('every table that %I creates from now on gives %s more than it should', o.rolname,
              string_agg(DISTINCT coalesce(quote_ident(g.rolname), 'PUBLIC'), ', ')) AS message,
       format('default privileges: %s',
              string_agg(DISTINCT format('%s for %s', a.privilege_type, coalesce(quote_ident(g.rolname), 'PUBLIC')), ', ')) AS evidence,
       string_agg(DISTINCT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE %s ON TABLES FROM %s;', o.rolname,
                                  CASE WHEN n.oid IS NULL THEN '' ELSE format(' IN SCHEMA %I', n.nspname) END,
                                  a.privilege_type, coalesce(quote_ident(g.rolname), 'PUBLIC')), ' ') AS fix,
       NULL::text AS severity
  FROM pg_default_acl d
  JOIN pg_roles o ON o.oid = d.defaclrole
  LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
 CROSS JOIN LATERAL aclexplode(d.defaclacl) a
  LEFT JOIN pg_roles g ON g.oid = a.grantee
 WHERE d.defaclobjtype = 'r' AND a.grantee <> d.defaclrole
   AND (a.grantee = 0
        OR (a.grantee = ANY ($4::oid[]) AND NOT g.rolsuper AND a.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')))
   AND (n.oid IS NULL OR (n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'))
 GROUP BY n.oid, n.nspname, o.rolname
