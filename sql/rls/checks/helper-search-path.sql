-- id: helper-search-path
-- title: A function behind a policy finds its tables by the caller's search_path
-- severity: error
-- why: A temporary table, or one in a schema of the intruder's, takes the place of the real one: its rows say who belongs to which tenant.
-- fix: Pin the path on the function and end it with pg_temp, which is searched first unless it is named, or qualify every name.
-- example: CREATE FUNCTION public.my_orgs() RETURNS SETOF uuid STABLE LANGUAGE sql AS 'SELECT org_id FROM members WHERE user_id = auth.uid()';
-- example: CREATE TEMP TABLE members AS SELECT '…another tenant…'::uuid AS org_id, auth.uid() AS user_id;  -- as the application; then SELECT * FROM public.events
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
loose AS MATERIALIZED (
    SELECT f.*, path.value IS NULL AS unpinned
      FROM helper h
      JOIN body f ON f.oid = h.oid
      LEFT JOIN LATERAL (SELECT substr(s.setting, length('search_path=') + 1) AS value
                           FROM unnest(f.proconfig) AS s(setting) WHERE s.setting LIKE 'search\_path=%') path ON true
     WHERE NOT f.parsed AND (path.value IS NULL OR path.value !~ '(\mpg_temp\M|^("")?$)')
),
acting AS (
    SELECT r.oid FROM unnest($5::oid[] || $6::oid) AS r(oid) WHERE r.oid <> ALL ($10::oid[])
),
may AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM acting a JOIN pg_database b ON b.datname = current_database()
                    WHERE has_database_privilege(a.oid, b.oid, 'TEMP')) AS temporary,
           EXISTS (SELECT FROM acting a JOIN pg_database b ON b.datname = current_database()
                    WHERE has_database_privilege(a.oid, b.oid, 'CREATE'))
               OR EXISTS (SELECT FROM acting a CROSS JOIN pg_namespace n
                           WHERE n.nspname !~ '^pg_' AND has_schema_privilege(a.oid, n.oid, 'CREATE')) AS creates
),
shadowed AS (
    SELECT f.oid, c.relname::text AS name, c.relnamespace AS namespace
      FROM loose f
     CROSS JOIN may
     CROSS JOIN LATERAL regexp_matches(f.text, '\m(?:from|join)\s+(?:only\s+)?(?:"([^"]+)"|([[:alpha:]_][[:alnum:]_$]*)\M)(?!\s*[.(])', 'gi') AS m(found)
      JOIN pg_class c ON c.relname = coalesce(m.found[1], lower(m.found[2])) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
     WHERE may.temporary OR may.creates AND f.unpinned
    UNION
    -- Functions are never looked for among the temporary objects.
    SELECT f.oid, g.proname || '()', g.pronamespace
      FROM loose f
     CROSS JOIN may
      JOIN calls k ON k.caller = f.oid AND k.unqualified
      JOIN body g ON g.oid = k.called
     WHERE may.creates AND f.unpinned
)
SELECT NULL::oid AS relation, format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS object,
       'function' AS object_kind, '' AS detail,
       format('a policy asks it, and the application role can put something of its own in the place of %s',
              string_agg(DISTINCT s.name, ', ')) AS message,
       format('%s; %s', CASE WHEN f.unpinned THEN 'no search_path of its own' ELSE array_to_string(f.proconfig, ', ') || ' (pg_temp comes first)' END,
              CASE WHEN may.temporary THEN 'the role may create temporary tables' ELSE 'the role may create in a schema' END) AS evidence,
       format('ALTER FUNCTION %I.%I(%s) SET search_path = pg_catalog, %s, pg_temp;', n.nspname, f.proname,
              pg_get_function_identity_arguments(f.oid), string_agg(DISTINCT quote_ident(x.nspname), ', ')) AS fix,
       NULL::text AS severity
  FROM shadowed s
  JOIN loose f ON f.oid = s.oid
  JOIN pg_namespace n ON n.oid = f.pronamespace
  JOIN pg_namespace x ON x.oid = s.namespace
 CROSS JOIN may
 GROUP BY f.oid, f.proname, f.unpinned, f.proconfig, n.nspname, may.temporary
