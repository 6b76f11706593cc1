-- id: role-server-files
-- title: The application role reads or writes the server's files, or starts programs there
-- severity: error
-- why: The files of the tables lie on the server, every tenant's among them; a program that it starts is the server's own user.
-- fix: Revoke the membership, or EXECUTE on the function.
-- example: GRANT pg_read_server_files TO tenancy_app;
-- example: SELECT pg_read_binary_file('base/16384/16390');  -- as the application: the pages of any table
SELECT NULL::oid AS relation, format('%I', p.rolname) AS object, 'role' AS object_kind, '' AS detail,
       format('the application has the rights of %I, with which the server''s files are open', p.rolname) AS message,
       format('granted to %s', string_agg(DISTINCT quote_ident(m.rolname), ', ')) AS evidence,
       format('REVOKE %I FROM %s;', p.rolname, string_agg(DISTINCT quote_ident(m.rolname), ', ')) AS fix,
       NULL::text AS severity, ARRAY['role ' || p.oid] AS path
  FROM pg_roles p
  JOIN pg_auth_members e ON e.roleid = p.oid
  JOIN pg_roles m ON m.oid = e.member
 WHERE p.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
   AND p.oid = ANY ($4::oid[]) AND m.oid = ANY ($4::oid[]) AND NOT m.rolsuper
 GROUP BY p.oid, p.rolname
UNION ALL
SELECT NULL, format('%I.%I(%s)', 'pg_catalog', f.proname, pg_get_function_identity_arguments(f.oid)), 'function', '',
       'the application may call a function that opens the server''s files',
       format('EXECUTE held through %s', string_agg(DISTINCT coalesce(quote_ident(g.rolname), 'PUBLIC'), ', ')),
       format('REVOKE EXECUTE ON FUNCTION %I.%I(%s) FROM %s;', 'pg_catalog', f.proname, pg_get_function_identity_arguments(f.oid),
              string_agg(DISTINCT coalesce(quote_ident(g.rolname), 'PUBLIC'), ', ')),
       NULL,
       CASE WHEN bool_and(a.grantee NOT IN (0, $6)) THEN ARRAY['role ' || min(g.oid), 'function ' || f.oid] END
  FROM pg_proc f
 CROSS JOIN LATERAL aclexplode(f.proacl) a
  LEFT JOIN pg_roles g ON g.oid = a.grantee
 WHERE f.pronamespace = 'pg_catalog'::regnamespace
   AND f.proname IN ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'lo_import', 'lo_export')
   AND a.grantee <> f.proowner AND (a.grantee = 0 OR (a.grantee = ANY ($4::oid[]) AND NOT g.rolsuper))
   -- The members of the role that has it by nature are told above.
   AND coalesce(g.rolname, '') NOT IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
 GROUP BY f.oid, f.proname
