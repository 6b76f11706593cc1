-- id: owner-reachable
-- title: The application role owns what it should be confined by
-- severity: error
-- why: An owner can switch row-level security off, drop a policy or replace the table, with a single statement.
-- fix: Give the object to a role that the application role is not a member of.
-- example: ALTER TABLE public.events OWNER TO tenancy_app;
-- example: ALTER TABLE public.events DISABLE ROW LEVEL SECURITY;  -- as the application: accepted, and all rows are open
WITH held AS (
    SELECT 'relation ' || c.oid AS stop, c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
           CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
           c.relowner AS owner,
           format('ALTER TABLE %I.%I OWNER TO …;', n.nspname, c.relname) AS fix
      FROM unnest($1::oid[]) AS t(oid)
      JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION
    SELECT 'schema ' || n.oid, NULL, format('%I', n.nspname), 'schema', n.nspowner, format('ALTER SCHEMA %I OWNER TO …;', n.nspname)
      FROM unnest($1::oid[]) AS t(oid)
      JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    UNION
    SELECT 'database ' || d.oid, NULL, format('%I', d.datname), 'database', d.datdba, format('ALTER DATABASE %I OWNER TO …;', d.datname)
      FROM pg_database d WHERE d.datname = current_database()
)
SELECT h.relation, h.object, h.object_kind, '' AS detail,
       format('%s the owner %I',
              CASE WHEN h.owner = $6 THEN 'the application role is'
                   WHEN pg_has_role($6::oid, h.owner, 'MEMBER') THEN 'the application role can act as'
                   ELSE 'a login of the application is or can act as' END, o.rolname) AS message,
       format('owner %I', o.rolname) AS evidence, h.fix, NULL::text AS severity,
       CASE WHEN h.owner <> $6 THEN ARRAY['role ' || h.owner, h.stop] END AS path
  FROM held h JOIN pg_roles o ON o.oid = h.owner
 WHERE h.owner = ANY ($4::oid[]) AND NOT o.rolsuper
