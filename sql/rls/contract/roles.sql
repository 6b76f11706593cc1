-- The roles that privileges on the tables $1, their policies or their ownership name.
SELECT r.rolname::text AS name, r.rolcanlogin AS login, r.rolsuper AS superuser, r.rolbypassrls AS bypass,
       bool_or(n.owns) AS owns
  FROM (SELECT x.grantee AS oid, false AS owns
          FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) x WHERE c.oid = ANY ($1::oid[]) AND x.grantee <> c.relowner
        UNION ALL
        SELECT x.grantee, false
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid CROSS JOIN LATERAL aclexplode(a.attacl) x
         WHERE c.oid = ANY ($1::oid[]) AND x.grantee <> c.relowner
        UNION ALL
        SELECT unnest(p.polroles), false FROM pg_policy p WHERE p.polrelid = ANY ($1::oid[])
        UNION ALL
        SELECT c.relowner, true FROM pg_class c WHERE c.oid = ANY ($1::oid[])) n
  JOIN pg_roles r ON r.oid = n.oid
 WHERE r.rolname !~ '^pg_'
 GROUP BY r.oid, r.rolname, r.rolcanlogin, r.rolsuper, r.rolbypassrls
 ORDER BY r.rolcanlogin DESC, r.rolname
