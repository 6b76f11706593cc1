-- Views that one of the roles $2 may read, with the tenant tables among $1 that each reaches.
WITH RECURSIVE depends AS (
    SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation
      FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
     WHERE r.rulename = '_RETURN'
),
walk(view, relation) AS (
    SELECT c.oid, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'v' AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
    UNION
    SELECT w.view, d.relation FROM walk w JOIN depends d ON d.view = w.relation
)
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, r.oid AS role,
       has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE')
           AND (pg_relation_is_updatable(c.oid, true) & 28) <> 0 AS writable,
       array_agg(t.oid ORDER BY t.oid) AS tables
  FROM walk w
  JOIN unnest($1::oid[]) AS t(oid) ON t.oid = w.relation
  JOIN pg_class c ON c.oid = w.view
  JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN unnest($2::oid[]) AS r(oid)
 WHERE has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, c.oid, 'SELECT')
 GROUP BY c.oid, n.nspname, c.relname, r.oid
