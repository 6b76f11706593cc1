-- Kind and name of things: of class $1 the one with the oid $2, each.
SELECT s.class, s.oid, k.kind, k.name
  FROM unnest($1::text[], $2::oid[]) AS s(class, oid)
 CROSS JOIN LATERAL (
    SELECT CASE WHEN r.rolcanlogin THEN 'login' ELSE 'role' END AS kind, format('%I', r.rolname) AS name
      FROM pg_roles r WHERE s.class = 'role' AND r.oid = s.oid
    UNION ALL
    SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'p' THEN 'partitioned table'
                          WHEN 'f' THEN 'foreign table' ELSE 'table' END,
           format('%I.%I', n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE s.class = 'relation' AND c.oid = s.oid
    UNION ALL
    SELECT CASE f.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
           format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid))
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace WHERE s.class = 'function' AND f.oid = s.oid
    UNION ALL
    SELECT 'schema', format('%I', n.nspname) FROM pg_namespace n WHERE s.class = 'schema' AND n.oid = s.oid
    UNION ALL
    SELECT 'database', format('%I', d.datname) FROM pg_database d WHERE s.class = 'database' AND d.oid = s.oid
 ) AS k
