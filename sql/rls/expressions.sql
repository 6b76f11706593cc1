-- What the policies of the tables $1 say, with the bodies of the functions that they call or that those name, any number
-- of steps away. Made once for all checks, since deparsing costs more than the checks do.
WITH RECURSIVE
policy AS MATERIALIZED (
    SELECT p.oid, pg_get_expr(p.polqual, p.polrelid) AS qual, pg_get_expr(p.polwithcheck, p.polrelid) AS checked
      FROM unnest($1::oid[]) AS t(oid) JOIN pg_policy p ON p.polrelid = t.oid
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
