-- id: row-security-off
-- title: row_security is off for the application's sessions
-- severity: warning
-- why: With row_security off a policy does not filter, it fails the query: the platform stops, and the usual remedy is BYPASSRLS.
-- fix: Reset the setting; only dumps by a role that bypasses need it.
-- example: ALTER ROLE web SET row_security = off;
-- example: SELECT * FROM public.events;  -- logged in as web: query would be affected by row-level security policy
SELECT NULL::oid AS relation,
       CASE WHEN r.oid IS NOT NULL THEN format('%I', r.rolname) WHEN d.oid IS NOT NULL THEN format('%I', d.datname)
            ELSE 'ALL' END AS object,
       CASE WHEN r.oid IS NULL AND d.oid IS NOT NULL THEN 'database' ELSE 'role' END AS object_kind,
       CASE WHEN r.oid IS NOT NULL AND d.oid IS NOT NULL THEN 'in database' ELSE '' END AS detail,
       format('every query of %s on a table with policies fails',
              concat_ws(' in ', CASE WHEN r.oid IS NOT NULL THEN format('role %I', r.rolname) ELSE 'any role' END,
                        CASE WHEN d.oid IS NOT NULL THEN format('database %I', d.datname) END)) AS message,
       u.entry AS evidence,
       CASE WHEN r.oid IS NOT NULL THEN format('ALTER ROLE %I%s RESET row_security;', r.rolname, coalesce(' IN DATABASE ' || quote_ident(d.datname), ''))
            WHEN d.oid IS NOT NULL THEN format('ALTER DATABASE %I RESET row_security;', d.datname)
            ELSE 'ALTER ROLE ALL RESET row_security;' END AS fix,
       NULL::text AS severity
  FROM pg_db_role_setting s
  LEFT JOIN pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_database d ON d.oid = s.setdatabase
 CROSS JOIN LATERAL unnest(s.setconfig) AS u(entry)
 WHERE (s.setdatabase = 0 OR d.datname = current_database()) AND (s.setrole = 0 OR s.setrole = ANY ($4::oid[])
        -- The logins behind the role begin with their own settings. Those that administer do not serve the platform.
        OR (r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, $6::oid, 'MEMBER')
            AND NOT coalesce(pg_has_role(r.oid, $9::oid, 'MEMBER'), false)))
   AND u.entry ~* '^row_security=' AND lower(split_part(u.entry, '=', 2)) IN ('off', 'of', 'false', 'fals', 'fal', 'fa', 'f', 'no', 'n', '0')
