-- What each of the roles $1 may do with each of the tables $2, and whether a permissive policy is for it.
WITH pair AS (
    SELECT r.oid AS role, r.rolname::text AS name, c.oid AS relation
      FROM pg_roles r CROSS JOIN unnest($2::oid[]) AS t(oid) JOIN pg_class c ON c.oid = t.oid
     WHERE r.rolname = ANY ($1::text[]) AND has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
)
SELECT p.name AS role, p.relation,
       has_table_privilege(p.role, p.relation, 'SELECT') OR has_any_column_privilege(p.role, p.relation, 'SELECT') AS reads,
       has_table_privilege(p.role, p.relation, 'INSERT, UPDATE, DELETE, TRUNCATE')
           OR has_any_column_privilege(p.role, p.relation, 'INSERT, UPDATE') AS writes,
       EXISTS (SELECT FROM pg_policy y CROSS JOIN unnest(y.polroles) AS x(oid)
                WHERE y.polrelid = p.relation AND y.polpermissive
                  AND CASE WHEN x.oid = 0 THEN true ELSE pg_has_role(p.role, x.oid, 'USAGE') END) AS admitted
  FROM pair p
