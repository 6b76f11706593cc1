-- id: function-search-path
-- title: A SECURITY DEFINER function finds its tables by the caller's search_path
-- severity: warning
-- why: The caller puts a table or function of the same name in front, and the function works on it with its owner's rights.
-- fix: Pin search_path to schemas that only trusted roles write to, with pg_temp at the end.
-- example: CREATE FUNCTION public.is_member() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT EXISTS (SELECT FROM members WHERE name = session_user)';
-- example: CREATE TEMP TABLE members AS SELECT session_user AS name;  -- as the application: is_member() now says yes
WITH candidate AS (
    SELECT f.oid, f.proname, f.prokind, f.proowner, f.pronamespace, n.nspname,
           (SELECT substr(s.entry, length('search_path=') + 1) FROM unnest(f.proconfig) AS s(entry)
             WHERE s.entry LIKE 'search_path=%') AS path
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE f.prosecdef AND f.proowner <> ALL ($4::oid[]) AND l.lanname NOT IN ('c', 'internal')
       -- A body in standard SQL knows its tables from when it was made.
       AND f.prosqlbody IS NULL
       AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
       -- A trigger's function needs no right to be called.
       AND (f.prorettype = 'trigger'::regtype AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = f.oid)
            OR EXISTS (SELECT FROM unnest($4::oid[]) AS role(oid)
                        WHERE has_schema_privilege(role.oid, n.oid, 'USAGE')
                          AND has_function_privilege(role.oid, f.oid, 'EXECUTE')))
),
writable AS MATERIALIZED (
    SELECT n.oid, n.nspname
      FROM pg_namespace n
     WHERE n.nspname !~ '^pg_(catalog|toast|temp)'
       AND EXISTS (SELECT FROM candidate)
       AND EXISTS (SELECT FROM unnest($4::oid[]) AS role(oid) JOIN pg_roles r ON r.oid = role.oid
                    WHERE NOT r.rolsuper AND has_schema_privilege(role.oid, n.oid, 'CREATE'))
),
temporary AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM unnest($4::oid[]) AS role(oid)
                    WHERE has_database_privilege(role.oid, current_database(), 'TEMP')) AS allowed
),
-- The schemas of a pinned path, in order.
pinned AS (
    SELECT c.oid, m.position, CASE WHEN m.found[2] = '$user' OR m.found[1] = '$user' THEN o.rolname::text
                                   ELSE coalesce(replace(m.found[1], '""', '"'), m.found[2]) END AS schema
      FROM candidate c JOIN pg_roles o ON o.oid = c.proowner
     CROSS JOIN LATERAL regexp_matches(c.path, '"((?:[^"]|"")*)"|([^\s,"]+)', 'g') WITH ORDINALITY AS m(found, position)
),
judged AS (
    SELECT c.*,
           CASE WHEN c.path IS NULL THEN 'its search_path is the caller''s'
                WHEN (SELECT bool_or(w.oid IS NOT NULL) FROM pinned p LEFT JOIN writable w ON w.nspname = p.schema WHERE p.oid = c.oid)
                THEN format('the application role may create objects in %s, which is on its search_path',
                            (SELECT string_agg(format('schema %I', w.nspname), ', ' ORDER BY p.position)
                               FROM pinned p JOIN writable w ON w.nspname = p.schema WHERE p.oid = c.oid))
                -- Where pg_temp is not named it comes first; with nothing on the path the names are qualified.
                WHEN (SELECT allowed FROM temporary)
                 AND EXISTS (SELECT FROM pinned p WHERE p.oid = c.oid AND p.schema NOT IN ('', 'pg_catalog'))
                 AND (SELECT p.schema FROM pinned p WHERE p.oid = c.oid ORDER BY p.position DESC LIMIT 1) <> 'pg_temp'
                THEN 'its search_path does not end with pg_temp, so the caller''s temporary tables come before the real ones' END AS reason
      FROM candidate c
)
SELECT NULL::oid AS relation,
       format('%I.%I(%s)', j.nspname, j.proname, pg_get_function_identity_arguments(j.oid)) AS object,
       CASE j.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS object_kind, '' AS detail,
       format('runs as %s, and %s', j.proowner::regrole, j.reason) AS message,
       format('SECURITY DEFINER; search_path %s', coalesce(nullif(j.path, ''), 'not pinned')) AS evidence,
       format('ALTER ROUTINE %I.%I(%s) SET search_path = %s;', j.nspname, j.proname, pg_get_function_identity_arguments(j.oid),
              concat_ws(', ', 'pg_catalog',
                        CASE WHEN j.path IS NULL AND j.pronamespace NOT IN (SELECT oid FROM writable) THEN quote_ident(j.nspname)
                             ELSE (SELECT string_agg(quote_ident(p.schema), ', ' ORDER BY p.position) FROM pinned p
                                    WHERE p.oid = j.oid AND p.schema NOT IN ('pg_catalog', 'pg_temp', '')
                                      AND p.schema NOT IN (SELECT nspname FROM writable)) END,
                        'pg_temp')) AS fix,
       NULL::text AS severity
  FROM judged j WHERE j.reason IS NOT NULL
