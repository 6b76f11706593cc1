-- Roles that the role $1 should never become: those that administer ($2), and the owner of the table $3. Quoted.
SELECT quote_ident(r.rolname)
  FROM pg_roles r
 WHERE NOT pg_has_role($1, r.oid, 'MEMBER') AND r.rolname <> current_user
   AND (r.oid = ANY ($2) OR r.oid = (SELECT c.relowner FROM pg_class c WHERE c.oid = $3))
 ORDER BY r.rolname
