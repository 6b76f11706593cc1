-- Every role that the role $1 can act as or inherits from, itself included.
-- A NOINHERIT member may still SET ROLE; from PostgreSQL 16 each membership says for itself whether it may be set or is
-- inherited, and ADMIN OPTION lets the member grant itself both.
WITH RECURSIVE
edge AS (
    SELECT m.member, m.roleid,
           coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) OR m.admin_option AS may_set,
           coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit) AS inherits
      FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
),
walk(oid, settable) AS (
    SELECT oid, true FROM pg_roles WHERE rolname = $1
    UNION
    SELECT e.roleid, w.settable AND e.may_set
      FROM walk w JOIN edge e ON e.member = w.oid AND (e.inherits OR (e.may_set AND w.settable))
)
SELECT r.oid, r.rolname::text AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypassrls,
       bool_or(w.settable) AS settable, true AS attackable
  FROM walk w JOIN pg_roles r ON r.oid = w.oid
 GROUP BY r.oid, r.rolname, r.rolsuper, r.rolbypassrls
 ORDER BY r.oid
