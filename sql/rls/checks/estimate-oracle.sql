-- id: estimate-oracle
-- title: The catalogue tells how many rows all tenants have
-- severity: note
-- why: The size of a table is known to everybody, and what one tenant does not have itself is the others': it tells a competitor how the business goes, table by table and day by day.
-- fix: Where that matters, keep the estimates from PUBLIC. EXPLAIN goes on estimating: let nobody but your own code choose the SQL.
-- example: SELECT relname, reltuples FROM pg_class WHERE relname = 'events';  -- as the application: every tenant's rows together
-- example: EXPLAIN SELECT FROM public.events WHERE tenant_id = '…another tenant…';  -- its share of them, by the planner's statistics
SELECT NULL::oid AS relation, format('%I', r.rolname) AS object, 'role' AS object_kind, '' AS detail,
       'it reads how many rows the tables of all tenants have' AS message,
       format('SELECT on pg_class.reltuples; %s tenant tables with an estimate', count(t.oid)) AS evidence,
       format('REVOKE SELECT ON pg_catalog.pg_class FROM PUBLIC; GRANT SELECT (%s) ON pg_catalog.pg_class TO PUBLIC;', min(k.kept)) AS fix,
       NULL::text AS severity
  FROM pg_roles r
  JOIN unnest($1::oid[], $3::boolean[]) AS x(oid, reachable) ON x.reachable
  JOIN pg_class t ON t.oid = x.oid AND t.reltuples > 0
 CROSS JOIN (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS kept
               FROM pg_attribute a
              WHERE a.attrelid = 'pg_class'::regclass AND a.attname NOT IN ('reltuples', 'relpages', 'relallvisible', 'relallfrozen')) k
 WHERE r.oid = $6::oid AND NOT r.rolsuper AND has_column_privilege(r.oid, 'pg_class'::regclass, 'reltuples', 'SELECT')
 GROUP BY r.oid, r.rolname
