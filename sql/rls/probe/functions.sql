-- SECURITY DEFINER functions without parameters that the role $1 may call and that promise to change nothing.
SELECT f.oid, format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS name,
       format('%I.%I', n.nspname, f.proname) AS call,
       coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS body,
       coalesce((SELECT array_agg(format_type(a.type, NULL) ORDER BY a.position)
                   FROM unnest(f.proargtypes::oid[]) WITH ORDINALITY AS a(type, position)), '{}') AS arguments
  FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
 WHERE f.prosecdef AND f.prokind = 'f' AND f.provolatile <> 'v' AND f.provariadic = 0
   AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
   AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
   AND has_schema_privilege($1::oid, n.oid, 'USAGE') AND has_function_privilege($1::oid, f.oid, 'EXECUTE')
