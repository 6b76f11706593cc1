-- id: helper-replaceable
-- title: The application role may replace a function that a policy asks
-- severity: error
-- why: Whoever owns the function, or its schema, gives it another body, and the policy answers as the intruder likes.
-- fix: Let the function and its schema belong to a role that the application cannot become.
-- example: ALTER FUNCTION public.my_tenant() OWNER TO tenancy_app;
-- example: CREATE OR REPLACE FUNCTION public.my_tenant() RETURNS uuid LANGUAGE sql AS 'SELECT ''…another tenant…''::uuid';  -- as the application
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
owned AS (
    SELECT f.*, n.nspname, f.proowner = ANY ($4::oid[]) AS itself,
           o.rolname AS owner, s.rolname AS schema_owner,
           -- Somebody out of reach: whoever owns a table that it guards, else whoever looks.
           coalesce((SELECT quote_ident(r.rolname)
                       FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner
                      WHERE c.oid = ANY ($1::oid[]) AND c.relowner <> ALL ($4::oid[]) ORDER BY r.rolname LIMIT 1),
                    quote_ident(session_user)) AS safe
      FROM helper h
      JOIN body f ON f.oid = h.oid
      JOIN pg_namespace n ON n.oid = f.pronamespace
      JOIN pg_roles o ON o.oid = f.proowner
      JOIN pg_roles s ON s.oid = n.nspowner
     WHERE f.proowner = ANY ($4::oid[]) OR n.nspowner = ANY ($4::oid[])
)
SELECT NULL::oid AS relation, format('%I.%I(%s)', f.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS object,
       'function' AS object_kind, '' AS detail,
       format('a policy asks it, and %s, who the application role is or can act as, owns %s',
              quote_ident(CASE WHEN f.itself THEN f.owner ELSE f.schema_owner END),
              CASE WHEN f.itself THEN 'it' ELSE 'its schema' END) AS message,
       format('function owned by %I, schema by %I', f.owner, f.schema_owner) AS evidence,
       concat_ws(' ', CASE WHEN f.itself THEN format('ALTER FUNCTION %I.%I(%s) OWNER TO %s;', f.nspname, f.proname,
                                                     pg_get_function_identity_arguments(f.oid), f.safe) END,
                 CASE WHEN s.mine THEN format('ALTER SCHEMA %I OWNER TO %s;', f.nspname, f.safe) END) AS fix,
       NULL::text AS severity
  FROM owned f
  JOIN pg_namespace n ON n.oid = f.pronamespace
 CROSS JOIN LATERAL (SELECT n.nspowner = ANY ($4::oid[]) AS mine) s
