-- id: function-sets-session
-- title: A function sets the tenant for the session, not for the transaction
-- severity: warning
-- why: On a pooled connection the tenant stays when the request is over: whoever gets the connection next is in it.
-- fix: Set it with set_config(…, true) or SET LOCAL, inside the transaction that serves the tenant.
-- example: CREATE FUNCTION public.enter(t uuid) RETURNS void LANGUAGE sql AS $$ SELECT set_config('app.current_tenant_id', t::text, false) $$;
-- example: SELECT * FROM public.events;  -- the next request on that connection, no tenant set: the last one's rows
WITH context AS (
    -- As it stands in a regular expression.
    SELECT string_agg(regexp_replace(name, '([^[:alnum:]_])', '\\\1', 'g'), '|') AS names FROM unnest($8::text[]) AS s(name)
),
source AS (
    SELECT f.oid, f.proname, f.prokind, n.nspname,
           -- Without comments.
           regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                          '(''(?:[^'']|'''')*'')|--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/', '\1 ', 'g') AS text
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     CROSS JOIN context c
     WHERE l.lanname NOT IN ('c', 'internal') AND f.prokind IN ('f', 'p')
       AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) ~* ('(\mset_config\M|\mset\s+(session\s+)?(' || c.names || '))')
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
       AND EXISTS (SELECT FROM unnest($4::oid[]) AS role(oid)
                    WHERE has_schema_privilege(role.oid, n.oid, 'USAGE')
                      AND (f.prorettype = 'trigger'::regtype OR has_function_privilege(role.oid, f.oid, 'EXECUTE')))
),
pattern AS (
    SELECT '(\mset_config\s*\(\s*''+(?:' || names || ')''+\s*(?:::\w+)?\s*,(?:(?!set_config)[^;])*?,\s*)false(\s*\))' AS call,
           '\mset\s+(?:session\s+)?((?:' || names || ')\M\s*(?:=|\mto\M))' AS statement
      FROM context
)
SELECT NULL::oid AS relation,
       format('%I.%I(%s)', s.nspname, s.proname, pg_get_function_identity_arguments(s.oid)) AS object,
       CASE s.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS object_kind, '' AS detail,
       'the tenant that it sets stays with the connection when the transaction is over' AS message,
       CASE WHEN s.text ~* p.call THEN 'set_config(…, false) in its body' ELSE 'SET without LOCAL in its body' END AS evidence,
       regexp_replace(regexp_replace(pg_get_functiondef(s.oid), p.call, '\1true\2', 'gi'), p.statement, 'SET LOCAL \1', 'gi')
           || ';' AS fix,
       NULL::text AS severity
  FROM source s CROSS JOIN pattern p
 WHERE s.text ~* p.call OR s.text ~* p.statement
