-- id: function-definer
-- title: A SECURITY DEFINER function works on tenant tables with rights that no policy binds
-- severity: error
-- why: The function runs as its owner; where that owner is exempt, whoever may call it reads or writes every tenant's rows.
-- fix: Make it SECURITY INVOKER, filter by the tenant in context, or revoke EXECUTE (PUBLIC has it by default).
-- suspicion: probe
WITH callable AS (
    SELECT DISTINCT f.oid
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace CROSS JOIN unnest($4::oid[]) AS role(oid)
     WHERE f.prosecdef AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
       AND has_schema_privilege(role.oid, n.oid, 'USAGE') AND has_function_privilege(role.oid, f.oid, 'EXECUTE')
),
body AS (
    SELECT f.oid, f.proname, f.pronamespace, f.proowner, f.prokind,
           coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS text
      FROM callable k JOIN pg_proc f ON f.oid = k.oid
     WHERE f.prolang IN (SELECT oid FROM pg_language WHERE lanname NOT IN ('c', 'internal'))
)
SELECT b.oid AS relation,
       format('%I.%I(%s)', n.nspname, b.proname, pg_get_function_identity_arguments(b.oid)) AS object,
       CASE b.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END AS object_kind, '' AS detail,
       format('runs as %I, whom no policy binds, on %s', o.rolname,
              coalesce(string_agg(DISTINCT c.oid::regclass::text, ', ') FILTER (WHERE strpos(b.text, c.relname) > 0),
                       'statements that it puts together')) AS message,
       CASE WHEN b.text ~* '(current_tenant|current_setting)' THEN 'SECURITY DEFINER; its body names the tenant in context'
            ELSE 'SECURITY DEFINER; its body does not name the tenant in context' END AS evidence,
       format('REVOKE EXECUTE ON ROUTINE %I.%I(%s) FROM PUBLIC, %s;', n.nspname, b.proname,
              pg_get_function_identity_arguments(b.oid), $6::regrole::text) AS fix,
       CASE WHEN b.text ~* '(current_tenant|current_setting)' AND b.text !~* '\mexecute\M' THEN 'note' END AS severity
  FROM body b
  JOIN pg_namespace n ON n.oid = b.pronamespace
  JOIN pg_roles o ON o.oid = b.proowner
  JOIN unnest($1::oid[]) AS t(oid) ON true
  JOIN pg_class c ON c.oid = t.oid
 WHERE c.relrowsecurity
   AND (o.rolsuper OR o.rolbypassrls OR (NOT c.relforcerowsecurity AND pg_has_role(o.oid, c.relowner, 'USAGE')))
   AND (b.text ~ ('(^|[^a-zA-Z0-9_])' || regexp_replace(c.relname, '([][\\.*+?(){}|^$])', '\\\1', 'g') || '($|[^a-zA-Z0-9_])')
        OR b.text ~* '\mexecute\M')
 GROUP BY b.oid, b.proname, b.pronamespace, b.prokind, b.text, n.nspname, o.rolname
