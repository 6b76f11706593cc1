-- id: login-escapes
-- title: A login behind the application role bypasses row-level security
-- severity: error
-- why: RESET ROLE leads back to the login: what the login may do, an injected statement may do.
-- fix: Let the application log in with a role that is a member of the application role and of nothing else.
-- example: CREATE ROLE web LOGIN BYPASSRLS IN ROLE tenancy_app;
-- example: SET ROLE tenancy_app; RESET ROLE; SELECT * FROM public.events;  -- logged in as web: all rows
WITH RECURSIVE
edge AS (
    SELECT m.member, m.roleid,
           coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) OR m.admin_option AS may_set,
           coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit) AS inherits
      FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
),
member(oid) AS (
    SELECT $6::oid
    UNION
    SELECT e.member FROM edge e JOIN member m ON m.oid = e.roleid WHERE e.may_set OR e.inherits
),
becomes(login, oid, settable) AS (
    SELECT r.oid, r.oid, true FROM member m JOIN pg_roles r ON r.oid = m.oid
     WHERE r.rolcanlogin AND r.oid <> $6 AND r.rolname <> session_user
    UNION
    SELECT b.login, e.roleid, b.settable AND e.may_set
      FROM becomes b JOIN edge e ON e.member = b.oid AND (e.inherits OR (e.may_set AND b.settable))
),
owners AS (
    SELECT DISTINCT c.relowner AS oid FROM unnest($1::oid[]) AS t(oid) JOIN pg_class c ON c.oid = t.oid
),
-- Members of the control plane's owner $9 administer: migrations make them so, and the platform logs in as somebody else.
escape AS (
    SELECT l.oid, l.rolname,
           string_agg(DISTINCT CASE WHEN r.rolsuper OR r.rolbypassrls
                                    THEN format('%s %s', CASE WHEN r.oid = l.oid THEN 'has' ELSE format('can become %I with', r.rolname) END,
                                                CASE WHEN r.rolsuper THEN 'SUPERUSER' ELSE 'BYPASSRLS' END)
                                    WHEN r.oid = l.oid THEN 'owns tenant tables'
                                    ELSE format('can act as %I, which owns tenant tables', r.rolname) END, ', ') AS ways,
           NOT bool_or(r.rolsuper OR r.rolbypassrls OR r.oid = l.oid)
               AND EXISTS (SELECT FROM pg_auth_members m WHERE m.member = l.oid AND m.roleid = $9::oid) AS operator,
           -- What a contract declares to cross; the control plane's own roles never bypass.
           $9::oid IS NULL AND bool_and(r.oid = ANY ($10::oid[])) AS declared,
           (array_agg(r.oid ORDER BY r.rolsuper OR r.rolbypassrls DESC, r.oid <> l.oid, r.oid))[1] AS becomes
      FROM becomes b
      JOIN pg_roles l ON l.oid = b.login
      JOIN pg_roles r ON r.oid = b.oid
      LEFT JOIN owners o ON o.oid = b.oid
     WHERE ((r.rolsuper OR r.rolbypassrls) AND b.settable) OR o.oid IS NOT NULL
     GROUP BY l.oid, l.rolname
)
SELECT NULL::oid AS relation, format('%I', e.rolname) AS object, 'role' AS object_kind, '' AS detail,
       CASE WHEN e.operator THEN format('login %I administers as a member of %s and must not be the login that the platform uses',
                                        e.rolname, $9::oid::regrole::text)
            ELSE format('login %I is a member of %s and %s', e.rolname, $6::regrole::text, e.ways) END AS message,
       CASE WHEN e.operator THEN e.ways ELSE format('RESET ROLE leads back to %I', e.rolname) END AS evidence,
       format('REVOKE %s FROM %I;', $6::regrole::text, e.rolname) AS fix,
       CASE WHEN e.operator OR e.declared THEN 'note' END AS severity,
       ARRAY['role ' || e.oid, 'role ' || e.becomes] AS path
  FROM escape e
