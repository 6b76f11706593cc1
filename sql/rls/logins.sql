-- What the logins behind the application role $1 hold of their own in this database: each login that can become it, any
-- number of hops away, and the roles that such a login can become, where grants, policies or ownership name them.
-- Left out: superusers and whoever bypasses row-level security (login-escapes reports them), whoever runs this, members
-- of the control plane's owner $2 (they administer), and the roles $3 that are known already.
WITH RECURSIVE
edge AS (
    SELECT m.member, m.roleid,
           coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) OR m.admin_option AS may_set,
           coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit) AS inherits
      FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
),
member(oid) AS (
    SELECT $1::oid
    UNION
    SELECT e.member FROM edge e JOIN member m ON m.oid = e.roleid WHERE e.may_set OR e.inherits
),
becomes(login, oid, settable) AS (
    SELECT r.oid, r.oid, true FROM member m JOIN pg_roles r ON r.oid = m.oid
     WHERE r.rolcanlogin AND r.oid <> $1 AND r.rolname <> session_user AND NOT r.rolsuper AND NOT r.rolbypassrls
       AND NOT coalesce(pg_has_role(r.oid, $2::oid, 'MEMBER'), false)
    UNION
    SELECT b.login, e.roleid, b.settable AND e.may_set
      FROM becomes b JOIN edge e ON e.member = b.oid AND (e.inherits OR (e.may_set AND b.settable))
),
named AS (
    SELECT DISTINCT b.login, b.oid
      FROM becomes b JOIN pg_shdepend d ON d.refclassid = 'pg_authid'::regclass AND d.refobjid = b.oid
     WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND b.oid <> ALL ($3::oid[])
)
SELECT r.oid, r.rolname::text AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypassrls,
       bool_or(b.settable) AS settable, pg_has_role(r.oid, 'MEMBER') AS attackable
  FROM becomes b JOIN pg_roles r ON r.oid = b.oid
 WHERE (EXISTS (SELECT FROM named n WHERE n.oid = b.oid) OR EXISTS (SELECT FROM named n WHERE n.login = b.oid))
   AND r.oid <> ALL ($3::oid[]) AND NOT r.rolsuper AND NOT r.rolbypassrls
 GROUP BY r.oid, r.rolname, r.rolsuper, r.rolbypassrls
 ORDER BY r.oid
