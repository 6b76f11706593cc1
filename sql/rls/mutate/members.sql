-- Every role that the role $1 is a member of, any number of steps away, but for those that are everything anyway. A
-- superuser is a member of every role, and needs none.
SELECT r.rolname::text
  FROM pg_roles r
 WHERE pg_has_role($1, r.oid, 'MEMBER') AND r.rolname <> $1 AND NOT r.rolsuper
   AND NOT (SELECT a.rolsuper FROM pg_roles a WHERE a.rolname = $1)
 ORDER BY r.rolname
