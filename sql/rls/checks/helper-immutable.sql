-- id: helper-immutable
-- title: A function that reads the context is declared IMMUTABLE
-- severity: error
-- why: It is evaluated once, when the statement is planned: a prepared statement answers the next tenant with the last one's rows.
-- fix: Declare the function STABLE.
-- example: CREATE FUNCTION public.my_tenant() RETURNS uuid IMMUTABLE LANGUAGE sql AS $$SELECT current_setting('app.tenant', true)::uuid$$;
-- example: EXECUTE rows;  -- PREPAREd and run for one tenant, executed for the next on the same connection: the first tenant's rows
WITH RECURSIVE
-- The platform's own functions in the policies that bind the role.
direct AS MATERIALIZED (
    SELECT DISTINCT d.refobjid AS function
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) ON t.oid = p.polrelid
      JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
     WHERE t.reachable AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
       AND d.refobjid NOT IN (SELECT f.oid FROM pg_proc f WHERE f.pronamespace = to_regnamespace('tenancy'))
),
body AS MATERIALIZED (
    SELECT f.oid, f.proname, f.pronamespace, f.proowner, f.provolatile, f.proconfig, f.pronargs, f.prosqlbody IS NOT NULL AS parsed,
           -- Without comments and literals.
           regexp_replace(regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                                         '(''(?:[^'']|'''')*'')|--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/', '\1 ', 'g'),
                          '''(?:[^'']|'''')*''', '''''', 'g') AS text
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE l.lanname NOT IN ('c', 'internal') AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend e
                        WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid AND e.deptype = 'e')
),
calls AS MATERIALIZED (
    SELECT DISTINCT f.oid AS caller, g.oid AS called, m.found[1] IS NULL AS unqualified
      FROM body f
     CROSS JOIN LATERAL regexp_matches(f.text, '(\.\s*)?(?:"([^"]+)"|([[:alpha:]_][[:alnum:]_$]*))\s*\(', 'g') AS m(found)
      JOIN body g ON g.proname = coalesce(m.found[2], lower(m.found[3])) AND g.oid <> f.oid
     WHERE m.found[1] IS NOT NULL
        OR NOT EXISTS (SELECT FROM pg_proc b
                        WHERE b.proname = g.proname AND b.pronamespace = 'pg_catalog'::regnamespace)
),
-- And those that they call, any number of steps away.
helper(oid) AS (
    SELECT function FROM direct
    UNION
    SELECT c.called FROM helper h JOIN calls c ON c.caller = h.oid
),
-- What a function reads, those included that it calls.
reads(oid, at) AS (
    SELECT h.oid, h.oid FROM helper h JOIN body f ON f.oid = h.oid WHERE f.provolatile = 'i'
    UNION
    SELECT r.oid, c.called FROM reads r JOIN calls c ON c.caller = r.at
),
found AS (
    SELECT r.oid, string_agg(DISTINCT lower(m.found[1]), ', ') AS names
      FROM reads r JOIN body f ON f.oid = r.at
     CROSS JOIN LATERAL regexp_matches(f.text, '\m(current_setting|current_tenant[a-z_]*|current_user|session_user|current_role|user)\M', 'gi') AS m(found)
     WHERE lower(m.found[1]) <> 'user'
     GROUP BY r.oid
)
SELECT NULL::oid AS relation, format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS object,
       'function' AS object_kind, '' AS detail,
       'a policy asks it, it reads the context, and it is declared IMMUTABLE' AS message,
       format('IMMUTABLE; its body reads %s', x.names) AS evidence,
       format('ALTER FUNCTION %I.%I(%s) STABLE;', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS fix,
       -- With a column among its arguments no plan holds its answer.
       CASE WHEN f.pronargs > 0
             AND NOT EXISTS (SELECT FROM direct d JOIN unnest($11::oid[]) AS p(oid) ON true
                               JOIN pg_policy q ON q.oid = p.oid
                              WHERE d.function = f.oid
                                AND concat(q.polqual, q.polwithcheck)
                                    ~ format('FUNCEXPR :funcid %s [^{}]*:args \((\{CONST [^{}]*\} ?)+\)', f.oid))
            THEN 'warning' END AS severity
  FROM found x
  JOIN body f ON f.oid = x.oid
  JOIN pg_namespace n ON n.oid = f.pronamespace
