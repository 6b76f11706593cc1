-- id: materialized-view
-- title: A materialized view holds all tenants' rows
-- severity: error
-- why: Row-level security does not exist on materialized views: whoever may read one reads what it was filled with.
-- fix: Revoke SELECT and hand rows out through a function or view that filters by the tenant.
-- example: CREATE MATERIALIZED VIEW public.totals AS SELECT tenant_id, count(*) FROM public.events GROUP BY 1;
-- example: GRANT SELECT ON public.totals TO tenancy_app;
-- example: SELECT * FROM public.totals;  -- as the application: a line for every tenant
WITH RECURSIVE
depends AS (
    SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation
      FROM pg_rewrite r
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid <> r.ev_class
     WHERE r.rulename = '_RETURN'
),
entry AS (
    SELECT c.oid, (array_agg(role.oid ORDER BY role.oid <> $6, role.oid))[1] AS role
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN unnest($4::oid[]) AS role(oid)
     WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND has_schema_privilege(role.oid, n.oid, 'USAGE')
       AND (has_table_privilege(role.oid, c.oid, 'SELECT') OR has_any_column_privilege(role.oid, c.oid, 'SELECT'))
     GROUP BY c.oid
),
-- Through views to the materialized view, and on to what it was filled from.
walk(entry, relation, stored) AS (
    SELECT e.oid, e.oid, CASE WHEN c.relkind = 'm' THEN e.oid END FROM entry e JOIN pg_class c ON c.oid = e.oid
    UNION
    SELECT w.entry, d.relation, coalesce(w.stored, CASE WHEN c.relkind = 'm' THEN c.oid END)
      FROM walk w JOIN depends d ON d.view = w.relation JOIN pg_class c ON c.oid = d.relation
)
SELECT m.oid AS relation, format('%I.%I', n.nspname, m.relname) AS object, 'materialized view' AS object_kind,
       '' AS detail,
       format('holds rows of %s, and the application role may read it%s', string_agg(DISTINCT w.relation::regclass::text, ', '),
              coalesce(' through ' || string_agg(DISTINCT w.entry::regclass::text, ', ') FILTER (WHERE w.entry <> m.oid), '')) AS message,
       'row-level security does not exist on materialized views' AS evidence,
       format('REVOKE ALL ON %I.%I FROM PUBLIC, %s;', n.nspname, m.relname, $6::regrole::text) AS fix,
       NULL::text AS severity,
       -- The shortest way in: the materialized view itself, where it can be read.
       ARRAY['role ' || (array_agg(y.role ORDER BY w.entry <> m.oid, w.entry))[1],
             'relation ' || (array_agg(w.entry ORDER BY w.entry <> m.oid, w.entry))[1], 'relation ' || m.oid,
             'relation ' || (array_agg(t.oid ORDER BY w.entry <> m.oid, w.entry, t.oid))[1]] AS path
  FROM walk w
  JOIN unnest($1::oid[]) AS t(oid) ON t.oid = w.relation
  JOIN pg_class m ON m.oid = w.stored
  JOIN entry y ON y.oid = w.entry
  JOIN pg_namespace n ON n.oid = m.relnamespace
 GROUP BY m.oid, n.nspname, m.relname
