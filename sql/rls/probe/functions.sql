-- SECURITY DEFINER functions and procedures that the roles $1 may call, by role.
WITH definer AS (
    SELECT f.oid, n.oid AS nspoid, format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS name,
           format('%I.%I', n.nspname, f.proname) AS call, f.prokind = 'p' AS is_procedure,
           coalesce((SELECT array_agg(format_type(a.type, NULL) ORDER BY a.position)
                       FROM unnest(f.proargtypes::oid[]) WITH ORDINALITY AS a(type, position)), '{}') AS arguments
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE f.prosecdef AND f.prokind IN ('f', 'p') AND f.provariadic = 0 AND l.lanname NOT IN ('c', 'internal')
       AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
       AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
)
SELECT d.oid, d.name, d.call, d.is_procedure, d.arguments, r.oid AS role
  FROM definer d CROSS JOIN unnest($1::oid[]) WITH ORDINALITY AS r(oid, position)
 WHERE has_schema_privilege(r.oid, d.nspoid, 'USAGE') AND has_function_privilege(r.oid, d.oid, 'EXECUTE')
 ORDER BY r.position, d.oid
