-- The policies of the tables $1. PUBLIC is a role without a name.
SELECT p.polrelid AS relation, p.polpermissive AS permissive,
       ARRAY(SELECT coalesce(r.rolname::text, '') FROM unnest(p.polroles) AS x(oid) LEFT JOIN pg_roles r ON r.oid = x.oid) AS roles,
       pg_get_expr(p.polqual, p.polrelid) AS qual, pg_get_expr(p.polwithcheck, p.polrelid) AS checked
  FROM pg_policy p
 WHERE p.polrelid = ANY ($1::oid[])
 ORDER BY p.polrelid, p.polname
