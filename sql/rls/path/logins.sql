-- The logins behind the application role $1, the nearest first, and whether row-level security binds each. Left out is
-- whoever runs this; members of the control plane's owner $2 administer, and do not count as bound.
WITH RECURSIVE member(oid, hops) AS (
    SELECT $1::oid, 0
    UNION
    SELECT e.member, m.hops + 1
      FROM member m
      JOIN pg_auth_members e ON e.roleid = m.oid
      JOIN pg_roles r ON r.oid = e.member
     WHERE coalesce((to_jsonb(e) ->> 'set_option')::boolean, true) OR e.admin_option
        OR coalesce((to_jsonb(e) ->> 'inherit_option')::boolean, r.rolinherit)
)
SELECT r.oid, NOT r.rolsuper AND NOT r.rolbypassrls AND NOT coalesce(pg_has_role(r.oid, $2::oid, 'MEMBER'), false) AS bound
  FROM member m JOIN pg_roles r ON r.oid = m.oid
 WHERE r.rolcanlogin AND r.rolname <> session_user
 GROUP BY r.oid, r.rolname, r.rolsuper, r.rolbypassrls
 ORDER BY min(m.hops), r.rolname
