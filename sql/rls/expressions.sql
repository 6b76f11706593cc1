-- What the policies of the tables $1 say, with the bodies of the functions that they call or that those name, any number
-- of steps away. Made once for all checks, since deparsing costs more than the checks do.
WITH RECURSIVE
side AS MATERIALIZED (
    SELECT p.oid::bigint * 2 + s.at AS id, p.polrelid, c.names
      FROM unnest($1::oid[]) AS t(oid) JOIN pg_policy p ON p.polrelid = t.oid
     CROSS JOIN (VALUES (0), (1)) AS s(at)
      JOIN (SELECT a.attrelid, string_agg(quote_ident(a.attname), ',' ORDER BY a.attnum) AS names
              FROM pg_attribute a WHERE a.attnum > 0 GROUP BY a.attrelid) c ON c.attrelid = p.polrelid
),
-- Deparsing opens the table, and most tables' policies say the same: what is written alike is deparsed once. It
-- reads the same for tables with the same columns, unless the table's own name is in it: a subquery's tables are named
-- apart from it, a column in a subquery and a whole row come with it.
tree AS MATERIALIZED (
    SELECT min(x.id) AS first, array_agg(x.id) AS ids, x.tree ~ ':rtable \(|:varlevelsup [1-9]|:varattno 0 ' AS apart
      FROM (SELECT p.oid::bigint * 2 + s.at AS id, s.tree || '' AS tree
              FROM pg_policy p CROSS JOIN LATERAL (VALUES (0, p.polqual::text), (1, p.polwithcheck::text)) AS s(at, tree)
             WHERE s.tree IS NOT NULL OFFSET 0) x
     GROUP BY x.tree
),
alike AS MATERIALIZED (
    SELECT min(s.id) AS first, array_agg(s.id) AS ids
      FROM (SELECT first, unnest(ids) AS id, apart FROM tree) t
      JOIN side s ON s.id = t.id
     GROUP BY t.first, s.names, CASE WHEN t.apart THEN s.polrelid END
),
text AS MATERIALIZED (
    SELECT a.ids, pg_get_expr(CASE a.first % 2 WHEN 0 THEN p.polqual ELSE p.polwithcheck END, p.polrelid) AS text
      FROM alike a JOIN pg_policy p ON p.oid = (a.first / 2)::oid
),
policy AS MATERIALIZED (
    SELECT (x.id / 2)::oid AS oid, min(x.text) FILTER (WHERE x.id % 2 = 0) AS qual, min(x.text) FILTER (WHERE x.id % 2 = 1) AS checked
      FROM (SELECT unnest(ids) AS id, text FROM text UNION ALL SELECT id, NULL FROM side) x
     GROUP BY x.id / 2
),
body AS MATERIALIZED (
    SELECT f.oid, f.proname, coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS text
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_' AND l.lanname NOT IN ('c', 'internal')
),
direct AS MATERIALIZED (
    SELECT DISTINCT d.objid AS policy, d.refobjid AS function
      FROM pg_depend d JOIN body b ON b.oid = d.refobjid
     WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass
),
reach(root, function) AS (
    SELECT DISTINCT function, function FROM direct
    UNION
    SELECT r.root, g.oid
      FROM reach r JOIN body f ON f.oid = r.function
     CROSS JOIN LATERAL regexp_matches(f.text, '([[:alnum:]_$]+)"?\s*\(', 'g') AS m(found)
      JOIN body g ON g.proname IN (m.found[1], lower(m.found[1]))
),
helpers AS (
    SELECT d.policy, string_agg(DISTINCT b.text, ' ') AS text
      FROM direct d JOIN reach r ON r.root = d.function JOIN body b ON b.oid = r.function
     GROUP BY d.policy
)
SELECT p.oid, p.qual, p.checked, concat_ws(' ', p.qual, p.checked, h.text) AS whole
  FROM policy p LEFT JOIN helpers h ON h.policy = p.oid
 ORDER BY p.oid
