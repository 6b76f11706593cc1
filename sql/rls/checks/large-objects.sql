-- id: large-objects
-- title: The application role reads large objects, which know no tenant
-- severity: error
-- why: A large object has an owner and rights, but no row and no policy: what one tenant's request stored, any other opens by number.
-- fix: Keep the contents in a bytea column of a tenant table, and revoke the functions that open large objects.
-- example: SELECT lo_from_bytea(0, 'tenant B''s contract');  -- as the application, in tenant B
-- example: SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata;  -- as the application, in tenant A: all of them
WITH function AS (
    SELECT f.oid::regprocedure::text AS name, f.proacl, f.proowner
      FROM pg_proc f
     WHERE f.pronamespace = 'pg_catalog'::regnamespace
       AND f.proname IN ('lo_open', 'lo_get', 'lo_put', 'lo_unlink', 'lo_truncate', 'lo_truncate64')
       AND EXISTS (SELECT FROM pg_roles r
                    WHERE r.oid = ANY ($4::oid[]) AND NOT r.rolsuper AND has_function_privilege(r.oid, f.oid, 'EXECUTE'))
),
-- A few are enough: there may be millions.
object AS (
    SELECT l.oid, o.rolname AS owner,
           l.lomowner = ANY ($4::oid[]) OR current_setting('lo_compat_privileges')::boolean
           OR EXISTS (SELECT FROM aclexplode(l.lomacl) a
                       WHERE a.privilege_type = 'UPDATE' AND (a.grantee = 0 OR a.grantee = ANY ($4::oid[]))) AS written
      FROM pg_largeobject_metadata l JOIN pg_roles o ON o.oid = l.lomowner
     WHERE EXISTS (SELECT FROM function)
       AND (l.lomowner = ANY ($4::oid[]) OR current_setting('lo_compat_privileges')::boolean
            OR EXISTS (SELECT FROM aclexplode(l.lomacl) a WHERE a.grantee = 0 OR a.grantee = ANY ($4::oid[])))
     LIMIT 1000
)
SELECT NULL::oid AS relation, 'pg_catalog.pg_largeobject' AS object, 'system table' AS object_kind, '' AS detail,
       CASE WHEN bool_or(b.written) THEN 'the application reads and writes large objects, and so does every tenant through it'
            ELSE 'the application reads large objects, and so does every tenant through it' END AS message,
       format('%s%s, number %s of %I among them%s', CASE count(*) WHEN 1000 THEN 'at least ' ELSE '' END,
              CASE count(*) WHEN 1 THEN '1 large object' ELSE count(*) || ' large objects' END, min(b.oid),
              (array_agg(b.owner ORDER BY b.oid))[1],
              CASE WHEN current_setting('lo_compat_privileges')::boolean THEN '; lo_compat_privileges is on' ELSE '' END) AS evidence,
       (SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM %s;', string_agg(DISTINCT f.name, ', '),
                      string_agg(DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC'), ', '))
          FROM function f
         CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
          LEFT JOIN pg_roles r ON r.oid = a.grantee
         WHERE a.grantee = 0 OR (a.grantee = ANY ($4::oid[]) AND NOT r.rolsuper)) AS fix,
       -- What it may only read somebody may have put there for all.
       CASE WHEN NOT bool_or(b.written) THEN 'warning' END AS severity
  FROM object b
HAVING count(*) > 0
