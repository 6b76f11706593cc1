-- id: activity-oracle
-- title: The application's sessions see each other's statements
-- severity: note
-- why: All tenants share the application's login, and pg_stat_activity shows a login every statement of its own: an injected query reads what other tenants are asking for, literals and all.
-- fix: Take the function behind pg_stat_activity from PUBLIC; monitoring keeps it.
-- example: SELECT query FROM pg_stat_activity WHERE usename = current_user;  -- as the application, again and again
SELECT NULL::oid AS relation, format('%I', r.rolname) AS object, 'role' AS object_kind, '' AS detail,
       'its sessions see each other''s statements, whichever tenant they serve' AS message,
       format('EXECUTE on %s', string_agg(DISTINCT f.oid::regprocedure::text, ', ')) AS evidence,
       string_agg(DISTINCT format('REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC; GRANT EXECUTE ON FUNCTION pg_catalog.%1$s TO pg_monitor;',
                                  f.oid::regprocedure), ' ') AS fix,
       NULL::text AS severity
  FROM pg_roles r
  JOIN pg_proc f ON f.pronamespace = 'pg_catalog'::regnamespace AND f.proname IN ('pg_stat_get_activity', 'pg_stat_get_backend_activity')
 CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
 WHERE r.oid = $6::oid AND NOT r.rolsuper
   -- What single roles were granted on purpose is monitoring's; role-reads-stats tells who may do that.
   AND a.grantee = 0 AND a.privilege_type = 'EXECUTE'
   AND EXISTS (SELECT FROM unnest($3::boolean[]) AS t(reachable) WHERE t.reachable)
 GROUP BY r.rolname
