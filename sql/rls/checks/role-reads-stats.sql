-- id: role-reads-stats
-- title: The application role reads the statements and statistics of everybody
-- severity: warning
-- why: pg_stat_activity and pg_stat_statements show the texts of other tenants' queries, literals and all.
-- fix: Revoke the membership; let monitoring log in with a role of its own.
-- example: GRANT pg_monitor TO tenancy_app;
-- example: SELECT query FROM pg_stat_activity;  -- as the application: what the other tenants ask for
SELECT NULL::oid AS relation, format('%I', p.rolname) AS object, 'role' AS object_kind, '' AS detail,
       format('the application has the rights of %I and sees other tenants'' statements', p.rolname) AS message,
       format('granted to %s', string_agg(DISTINCT quote_ident(m.rolname), ', ')) AS evidence,
       format('REVOKE %I FROM %s;', p.rolname, string_agg(DISTINCT quote_ident(m.rolname), ', ')) AS fix,
       NULL::text AS severity
  FROM pg_roles p
  JOIN pg_auth_members e ON e.roleid = p.oid
  JOIN pg_roles m ON m.oid = e.member
 WHERE p.rolname IN ('pg_monitor', 'pg_read_all_stats')
   -- What comes with pg_monitor goes with it.
   AND p.oid = ANY ($4::oid[]) AND m.oid = ANY ($4::oid[]) AND NOT m.rolsuper AND m.rolname <> 'pg_monitor'
 GROUP BY p.rolname
