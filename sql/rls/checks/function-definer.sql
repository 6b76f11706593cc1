-- id: function-definer
-- title: A SECURITY DEFINER function works on tenant tables with rights that no policy binds
-- severity: error
-- why: The function runs as its owner; where that owner is exempt, whoever may call it reads or writes every tenant's rows.
-- fix: Make it SECURITY INVOKER, filter by the tenant in context, or revoke EXECUTE (PUBLIC has it by default).
-- suspicion: probe
-- example: CREATE FUNCTION public.count_events() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.events';
-- example: SELECT public.count_events();  -- as the application: counts every tenant's rows
WITH RECURSIVE
source AS (
    SELECT f.oid, f.proname, f.pronamespace, f.proowner, f.prokind, f.prosecdef,
           -- Without comments.
           regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                          '(''(?:[^'']|'''')*'')|--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/', '\1 ', 'g') AS text
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE l.lanname NOT IN ('c', 'internal') AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
       AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
),
stripped AS (
    SELECT s.*, regexp_replace(s.text, '''(?:[^'']|'''')*''', '''''', 'g') AS bare FROM source s
),
body AS (
    SELECT s.*,
           s.bare ~* '(\mexecute\M|_to_xml\M|_to_xmlschema\M|_to_xml_and_xmlschema\M|\mdblink)' AS dynamic,
           -- Every statement that is put together is one literal: what it names is what it does.
           regexp_replace(s.bare, '(\mexecute\s+''''\s*(;|\minto\M|\musing\M)|\m(query|table)_to_xml\w*\s*\(\s*''''\s*(::\w+\s*)?,)', '', 'gi')
               !~* '(\mexecute\M|_to_xml\M|_to_xmlschema\M|_to_xml_and_xmlschema\M|\mdblink)' AS literal_only
      FROM stripped s
),
word AS (
    SELECT DISTINCT b.oid, coalesce(m.found[1], lower(m.found[2])) AS name
      FROM body b
     CROSS JOIN LATERAL regexp_matches(CASE WHEN b.dynamic THEN b.text ELSE b.bare END,
                                       '"([^"]+)"|([[:alpha:]_][[:alnum:]_$]*)', 'g') AS m(found)
),
-- Functions that look at the context, by themselves or through others that they call.
contextual(oid) AS (
    SELECT b.oid FROM body b WHERE b.bare ~* '(current_tenant|current_setting)'
    UNION
    SELECT w.oid FROM contextual c JOIN body f ON f.oid = c.oid JOIN word w ON w.name = f.proname
),
depends AS (
    SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation
      FROM pg_rewrite r
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid <> r.ev_class
     WHERE r.rulename = '_RETURN'
),
-- The tenant tables, and the views and materialized views that lead to them.
leads(relation, tenant) AS (
    SELECT t.oid, t.oid FROM unnest($1::oid[]) AS t(oid)
    UNION
    SELECT d.view, l.tenant FROM leads l JOIN depends d ON d.relation = l.relation
),
touches AS (
    SELECT DISTINCT w.oid, l.tenant FROM word w JOIN pg_class c ON c.relname = w.name JOIN leads l ON l.relation = c.oid
    UNION
    SELECT b.oid, t.oid FROM body b CROSS JOIN unnest($1::oid[]) AS t(oid) WHERE b.dynamic AND NOT b.literal_only
),
callable AS (
    SELECT b.oid, b.proowner, (array_agg(role.oid ORDER BY role.oid <> $6, role.oid))[1] AS role
      FROM body b CROSS JOIN unnest($4::oid[]) AS role(oid)
     WHERE b.prosecdef AND has_schema_privilege(role.oid, b.pronamespace, 'USAGE')
       AND has_function_privilege(role.oid, b.oid, 'EXECUTE')
     GROUP BY b.oid, b.proowner
),
-- On to the functions that it calls: those run as whoever calls them, unless they are definers themselves.
walk(entry, at, owner) AS (
    SELECT oid, oid, proowner FROM callable
    UNION
    SELECT w.entry, f.oid, CASE WHEN f.prosecdef THEN f.proowner ELSE w.owner END
      FROM walk w JOIN word x ON x.oid = w.at JOIN body f ON f.proname = x.name AND f.oid <> w.at
),
found AS (
    SELECT w.entry, w.at, o.rolname AS owner, c.oid AS tenant, y.dynamic AND NOT y.literal_only AS dynamic
      FROM walk w
      JOIN body y ON y.oid = w.at
      JOIN touches h ON h.oid = w.at
      JOIN pg_class c ON c.oid = h.tenant
      JOIN pg_roles o ON o.oid = w.owner
     WHERE c.relrowsecurity
       AND (o.rolsuper OR o.rolbypassrls OR (NOT c.relforcerowsecurity AND pg_has_role(o.oid, c.relowner, 'USAGE'))
            OR (o.oid <> ALL ($4::oid[])
                AND EXISTS (SELECT FROM pg_policy p
                             WHERE p.polrelid = c.oid AND p.polpermissive
                               AND coalesce(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) = 'true'
                               AND EXISTS (SELECT FROM unnest(p.polroles) AS r(oid)
                                            WHERE r.oid <> 0 AND pg_has_role(o.oid, r.oid, 'USAGE')))
                AND NOT EXISTS (SELECT FROM pg_policy p
                                 WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd::text IN ('*', 'r')
                                   AND pg_get_expr(p.polqual, p.polrelid) !~* '\mor\M'
                                   AND (0 = ANY (p.polroles) OR o.oid = ANY (p.polroles)))))
)
SELECT b.oid AS relation,
       format('%I.%I(%s)', n.nspname, b.proname, pg_get_function_identity_arguments(b.oid)) AS object,
       CASE b.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS object_kind, '' AS detail,
       format('runs as %s, whom no policy binds, on %s', string_agg(DISTINCT quote_ident(f.owner), ', '),
              coalesce(string_agg(DISTINCT f.tenant::regclass::text, ', ') FILTER (WHERE NOT f.dynamic),
                       'statements that it puts together'))
           || CASE WHEN x.oid IS NOT NULL THEN '; that it keeps to the tenant could not be proven'
                   ELSE '' END AS message,
       CASE WHEN x.oid IS NOT NULL THEN 'SECURITY DEFINER; it looks at the tenant in context'
            ELSE 'SECURITY DEFINER; it does not look at the tenant in context' END AS evidence,
       format('REVOKE EXECUTE ON ROUTINE %I.%I(%s) FROM PUBLIC, %s;', n.nspname, b.proname,
              pg_get_function_identity_arguments(b.oid), $6::regrole::text) AS fix,
       CASE WHEN x.oid IS NOT NULL AND NOT bool_or(f.dynamic) THEN 'warning' END AS severity,
       array_remove(ARRAY['role ' || min(k.role), 'function ' || b.oid,
                          'function ' || (array_agg(f.at ORDER BY f.dynamic, f.at <> f.entry, f.tenant, f.at))[1],
                          -- What a statement that is put together reaches is not known.
                          'relation ' || (array_agg(f.tenant ORDER BY f.at <> f.entry, f.tenant, f.at)
                                              FILTER (WHERE NOT f.dynamic))[1]], NULL) AS path
  FROM found f
  JOIN body b ON b.oid = f.entry
  JOIN callable k ON k.oid = f.entry
  LEFT JOIN contextual x ON x.oid = b.oid
  JOIN pg_namespace n ON n.oid = b.pronamespace
 GROUP BY b.oid, b.proname, b.pronamespace, b.prokind, x.oid, n.nspname
