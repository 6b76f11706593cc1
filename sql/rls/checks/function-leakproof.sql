-- id: function-leakproof
-- title: A function of the platform's own is marked LEAKPROOF
-- severity: error
-- why: A leakproof function runs on rows before the policies have hidden them: what it prints, counts or raises is every tenant's.
-- fix: Take the mark away unless the function is known to tell nothing about its arguments, not even in an error.
-- example: CREATE FUNCTION public.peek(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF COST 0.1 AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;
-- example: SELECT * FROM public.events WHERE public.peek(title);  -- as the application: a line for every tenant's title
SELECT NULL::oid AS relation,
       format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS object,
       'function' AS object_kind, '' AS detail,
       'runs on rows before the policies hide them, and the application role may call it' AS message,
       format('proleakproof, language %s', l.lanname) AS evidence,
       format('ALTER FUNCTION %I.%I(%s) NOT LEAKPROOF;', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)) AS fix,
       NULL::text AS severity
  FROM pg_proc f
  JOIN pg_namespace n ON n.oid = f.pronamespace
  JOIN pg_language l ON l.oid = f.prolang
 WHERE f.proleakproof AND f.oid >= 16384 AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
   -- Without arguments it sees no row.
   AND f.pronargs > 0
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
   AND EXISTS (SELECT FROM unnest($4::oid[]) AS role(oid)
                WHERE has_schema_privilege(role.oid, n.oid, 'USAGE') AND has_function_privilege(role.oid, f.oid, 'EXECUTE'))
