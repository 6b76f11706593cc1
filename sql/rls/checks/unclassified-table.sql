-- id: unclassified-table
-- title: A table that the application role can reach is neither tenant-scoped nor declared shared
-- severity: warning
-- why: Nobody said whose rows these are; a tenant's data in a table without a tenant is everybody's.
-- fix: Add a tenant column and protect the table, declare it shared, or revoke the privilege.
-- example: CREATE TABLE public.attachments (event_id uuid, content bytea);
-- example: GRANT SELECT ON public.attachments TO tenancy_app;
-- example: SELECT * FROM public.attachments;  -- as the application: the files of every tenant's events
WITH RECURSIVE
-- What hangs on a tenant table is a tenant's: child-unprotected.
child(oid) AS (
    SELECT k.conrelid FROM pg_constraint k
     WHERE k.contype = 'f' AND (k.confrelid = ANY ($1::oid[]) OR k.confrelid = to_regclass('tenancy.tenants'))
       AND k.conrelid <> ALL ($1::oid[]) AND k.conrelid <> ALL ($7::oid[])
    UNION
    SELECT k.conrelid FROM child c JOIN pg_constraint k ON k.confrelid = c.oid
     WHERE k.contype = 'f' AND k.conrelid <> ALL ($1::oid[]) AND k.conrelid <> ALL ($7::oid[])
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       'the table has no tenant column and is not declared shared' AS message,
       format('privileges: %s', concat_ws(', ',
              CASE WHEN bool_or(has_table_privilege(role.oid, c.oid, 'SELECT')
                                OR has_any_column_privilege(role.oid, c.oid, 'SELECT')) THEN 'SELECT' END,
              CASE WHEN bool_or(has_table_privilege(role.oid, c.oid, 'INSERT')
                                OR has_any_column_privilege(role.oid, c.oid, 'INSERT')) THEN 'INSERT' END,
              CASE WHEN bool_or(has_table_privilege(role.oid, c.oid, 'UPDATE')
                                OR has_any_column_privilege(role.oid, c.oid, 'UPDATE')) THEN 'UPDATE' END,
              CASE WHEN bool_or(has_table_privilege(role.oid, c.oid, 'DELETE')) THEN 'DELETE' END)) AS evidence,
       -- A platform that is not managed declares it in its contract.
       CASE WHEN to_regproc('tenancy.share') IS NOT NULL THEN format('SELECT tenancy.share(%L);', format('%I.%I', n.nspname, c.relname))
            ELSE format('REVOKE ALL ON %I.%I FROM PUBLIC, %s;', n.nspname, c.relname, string_agg(DISTINCT role.oid::regrole::text, ', '))
       END AS fix,
       NULL::text AS severity
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN unnest($4::oid[]) AS role(oid)
 WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
   AND c.oid <> ALL ($1::oid[]) AND c.oid <> ALL ($7::oid[]) AND c.oid NOT IN (SELECT h.oid FROM child h)
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
   AND has_schema_privilege(role.oid, n.oid, 'USAGE')
   AND (has_table_privilege(role.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
        OR has_any_column_privilege(role.oid, c.oid, 'SELECT, INSERT, UPDATE'))
 GROUP BY c.oid, n.nspname
UNION ALL
SELECT c.oid, format('%I.%I', n.nspname, c.relname),
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
       'shared',
       CASE WHEN a.attname IS NULL THEN 'the table is declared shared, and the application may write to it: one tenant changes what all read'
            ELSE format('the table is declared shared, but has the tenant column %I', a.attname) END,
       CASE WHEN a.attname IS NULL THEN format('writable by %s', string_agg(DISTINCT r.rolname, ', '))
            ELSE 'no policy keeps its rows apart' END,
       CASE WHEN a.attname IS NULL
            THEN format('REVOKE INSERT, UPDATE, DELETE ON %I.%I FROM PUBLIC, %s;', n.nspname, c.relname,
                        string_agg(DISTINCT quote_ident(r.rolname), ', '))
            WHEN to_regproc('tenancy.protect') IS NOT NULL THEN format('SELECT tenancy.protect(%L);', format('%I.%I', n.nspname, c.relname))
            ELSE format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY;', n.nspname, c.relname) END,
       CASE WHEN a.attname IS NULL THEN 'warning' ELSE 'error' END
  FROM unnest($7::oid[]) AS s(oid)
  JOIN pg_class c ON c.oid = s.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (SELECT a.attname FROM pg_attribute a
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'id'
                        AND (a.attname = 'tenant_id' OR a.attname = ANY ($2::text[])) LIMIT 1) a ON true
  LEFT JOIN pg_roles r ON r.oid = ANY ($4::oid[]) AND NOT r.rolsuper AND has_schema_privilege(r.oid, n.oid, 'USAGE')
       AND (has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE')
            OR has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE'))
 WHERE a.attname IS NOT NULL OR r.oid IS NOT NULL
 GROUP BY c.oid, n.nspname, a.attname
