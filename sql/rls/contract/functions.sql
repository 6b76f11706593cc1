-- The functions whose bodies can be read.
SELECT n.nspname::text AS schema, f.proname::text AS name, coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS body
  FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
 WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND l.lanname NOT IN ('c', 'internal') AND f.prokind = 'f'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
 ORDER BY n.nspname, f.proname, f.oid
