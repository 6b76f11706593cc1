-- Views and materialized views that one of the roles $2 may use, with the tenant tables among $1 that each reaches.
WITH RECURSIVE depends AS (
    SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation
      FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
     WHERE r.rulename = '_RETURN'
),
walk(view, relation) AS (
    SELECT c.oid, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
    UNION
    SELECT w.view, d.relation FROM walk w JOIN depends d ON d.view = w.relation
),
found AS (
    SELECT c.oid, n.oid AS nspoid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind = 'm' AS stored,
           coalesce((SELECT o.option_value::boolean FROM pg_options_to_table(c.reloptions) o
                      WHERE o.option_name = 'security_invoker'), false) AS invoker,
           pg_relation_is_updatable(c.oid, true) AS writes, array_agg(t.oid ORDER BY t.oid) AS tables
      FROM walk w
      JOIN unnest($1::oid[]) AS t(oid) ON t.oid = w.relation
      JOIN pg_class c ON c.oid = w.view
      JOIN pg_namespace n ON n.oid = c.relnamespace
     GROUP BY c.oid, n.oid, n.nspname, c.relname
),
used AS (
    SELECT f.oid, f.name, f.stored, f.invoker, r.oid AS role, f.tables, has_table_privilege(r.oid, f.oid, 'SELECT') AS selects,
           -- The bits that PostgreSQL gives INSERT, UPDATE and DELETE.
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = f.oid AND a.attnum > 0 AND f.writes & 8 <> 0
                    AND has_column_privilege(r.oid, f.oid, a.attnum, 'INSERT') ORDER BY a.attnum) AS inserts,
           ARRAY(SELECT a.attname::text FROM pg_attribute a
                  WHERE a.attrelid = f.oid AND a.attnum > 0 AND f.writes & 4 <> 0
                    AND has_column_privilege(r.oid, f.oid, a.attnum, 'UPDATE') ORDER BY a.attnum) AS updates,
           f.writes & 16 <> 0 AND has_table_privilege(r.oid, f.oid, 'DELETE') AS deletes
      FROM found f CROSS JOIN unnest($2::oid[]) AS r(oid)
     WHERE has_schema_privilege(r.oid, f.nspoid, 'USAGE')
)
SELECT * FROM used WHERE selects OR deletes OR cardinality(inserts) > 0 OR cardinality(updates) > 0
