-- The policies of the table $1, with what it takes to write them anew.
SELECT p.polname::text AS name, p.polpermissive AS permissive, p.polcmd::text AS command,
       CASE WHEN p.polroles = '{0}' THEN 'PUBLIC'
            ELSE (SELECT string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname) FROM pg_roles r WHERE r.oid = ANY (p.polroles))
       END AS roles,
       pg_get_expr(p.polqual, p.polrelid) AS qual, pg_get_expr(p.polwithcheck, p.polrelid) AS checked
  FROM pg_policy p
 WHERE p.polrelid = $1
 ORDER BY p.polname
