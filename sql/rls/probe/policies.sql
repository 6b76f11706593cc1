-- What the policies of the tables $1 say, with the bodies of the functions that they call.
SELECT t.oid AS relation,
       string_agg(concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), ' ') AS expressions,
       coalesce(string_agg((SELECT string_agg(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc), ' ')
                     FROM pg_depend d JOIN pg_proc f ON f.oid = d.refobjid
                    WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
                      AND f.pronamespace <> 'pg_catalog'::regnamespace
                      AND f.oid::regprocedure::text NOT LIKE 'tenancy.current\_tenant\_id%'), ' '), '') AS functions
  FROM unnest($1::oid[]) AS t(oid) JOIN pg_policy p ON p.polrelid = t.oid
 GROUP BY t.oid
