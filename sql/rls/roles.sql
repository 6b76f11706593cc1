-- Every role that the role $1 can act as or inherits from, itself included, with the shortest way there.
-- A NOINHERIT member may still SET ROLE; from PostgreSQL 16 each membership says for itself whether it may be set or is
-- inherited, and ADMIN OPTION lets the member grant itself both.
WITH RECURSIVE
edge AS (
    SELECT m.member, m.roleid,
           coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) OR m.admin_option AS may_set,
           coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit) AS inherits
      FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
),
walk(oid, settable, path) AS (
    SELECT oid, true, ARRAY[rolname::text] FROM pg_roles WHERE rolname = $1
    UNION ALL
    SELECT e.roleid, w.settable AND e.may_set, w.path || r.rolname::text
      FROM walk w
      JOIN edge e ON e.member = w.oid AND (e.inherits OR (e.may_set AND w.settable))
      JOIN pg_roles r ON r.oid = e.roleid
     WHERE r.rolname <> ALL (w.path)
)
SELECT DISTINCT ON (w.oid)
       w.oid, r.rolname::text AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypassrls,
       bool_or(w.settable) OVER (PARTITION BY w.oid) AS settable,
       array_to_string(w.path, ' → ') AS path
  FROM walk w JOIN pg_roles r ON r.oid = w.oid
 ORDER BY w.oid, w.settable DESC, cardinality(w.path)
