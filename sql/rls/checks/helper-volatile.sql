-- id: helper-volatile
-- title: A policy calls a VOLATILE function
-- severity: warning
-- why: A function that may change its mind is called for each row and keeps every index out; functions are VOLATILE unless declared.
-- fix: Declare the function STABLE; one that writes belongs into no policy.
-- example: CREATE FUNCTION public.my_tenant() RETURNS uuid LANGUAGE plpgsql AS $$BEGIN RETURN current_setting('app.tenant', true)::uuid; END$$;
-- example: EXPLAIN SELECT * FROM public.events;  -- Seq Scan with Filter: (tenant_id = my_tenant())
WITH
-- The platform's own functions in the policies that bind the role.
direct AS MATERIALIZED (
    SELECT DISTINCT d.refobjid AS function, p.polrelid, p.polname, x.qual, x.checked
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) ON t.oid = p.polrelid
      JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
     WHERE t.reachable AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
       AND d.refobjid NOT IN (SELECT f.oid FROM pg_proc f WHERE f.pronamespace = to_regnamespace('tenancy'))
),
-- Those that PostgreSQL cannot put in line as an expression, and that it therefore calls.
called AS MATERIALIZED (
    SELECT f.oid, f.proname, n.nspname, f.pronargs, coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS text,
           regexp_replace(quote_ident(f.proname), '([][(){}.*+?^$|\\])', '\\\1', 'g') AS pattern
      FROM (SELECT DISTINCT function FROM direct) d
      JOIN pg_proc f ON f.oid = d.function JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE f.provolatile = 'v' AND l.lanname NOT IN ('c', 'internal') AND NOT f.proretset
       AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend e
                        WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid AND e.deptype = 'e')
       AND (l.lanname <> 'sql' OR f.prosecdef OR f.proconfig IS NOT NULL
            OR coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) ~* '(\mfrom\M(?!\s*''|\s+\d)|\mlimit\M|;\s*\S)')
),
-- Calls without a column: one answer serves all rows.
call AS MATERIALIZED (
    SELECT f.oid, '((?:(?:"[^"]+"|[[:alnum:]_$]+)\.)?' || f.pattern
               || '\((?:(?:''(?:[^'']|'''')*''|-?\d+|true|false|NULL)(?:::[[:alnum:]_ ."]+)?(?:, )?)*\))' AS pattern
      FROM called f
),
text AS MATERIALIZED (
    SELECT u.function, u.text, w.rest, w.rest ~ c.pattern AS unwrapped,
           regexp_replace(u.text, '(?:\( ?SELECT )?' || c.pattern || '(?: AS "?[[:alnum:]_$]+"?\))?', '( SELECT \1)', 'g') AS wrapped
      FROM (SELECT DISTINCT d.function, v.text
              FROM direct d JOIN called f ON f.oid = d.function
             CROSS JOIN LATERAL (VALUES (d.qual), (d.checked)) AS v(text)
             WHERE strpos(v.text, quote_ident(f.proname) || '(') > 0) u
      JOIN call c ON c.oid = u.function
     CROSS JOIN LATERAL (SELECT regexp_replace(u.text, 'SELECT ' || c.pattern, '', 'g') AS rest) w
)
SELECT NULL::oid AS relation, format('%I.%I(%s)', f.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS object,
       'function' AS object_kind, '' AS detail,
       format('VOLATILE, and called for each row by %s',
              string_agg(DISTINCT format('%I on %I.%I', d.polname, s.nspname, c.relname), ', ')) AS message,
       min(coalesce(q.text, k.text)) AS evidence,
       -- What writes cannot be STABLE.
       CASE WHEN f.text ~* '\m(insert\s+into|update|delete\s+from|nextval|setval|set_config|execute)\M' AND bool_and(coalesce(q.unwrapped, k.unwrapped))
            THEN string_agg(DISTINCT format('ALTER POLICY %I ON %I.%I %s;', d.polname, s.nspname, c.relname,
                                  concat_ws(' ', 'USING (' || q.wrapped || ')', 'WITH CHECK (' || k.wrapped || ')')), E'\n')
            ELSE format('ALTER FUNCTION %I.%I(%s) STABLE;', f.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) END AS fix,
       NULL::text AS severity
  FROM called f
  JOIN direct d ON d.function = f.oid
  LEFT JOIN text q ON q.function = f.oid AND q.text = d.qual AND strpos(q.rest, quote_ident(f.proname) || '(') > 0
  LEFT JOIN text k ON k.function = f.oid AND k.text = d.checked AND strpos(k.rest, quote_ident(f.proname) || '(') > 0
  JOIN pg_class c ON c.oid = d.polrelid
  JOIN pg_namespace s ON s.oid = c.relnamespace
 WHERE c.relrowsecurity AND (q.text IS NOT NULL OR k.text IS NOT NULL)
 GROUP BY f.oid, f.nspname, f.proname, f.text
