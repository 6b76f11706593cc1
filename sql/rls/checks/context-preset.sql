-- id: context-preset
-- title: A role or the database presets the tenant
-- severity: error
-- why: Every session begins in that tenant: a request that forgot its own reads and writes there, and no policy notices.
-- fix: Reset the setting; the tenant belongs to the transaction.
-- example: ALTER ROLE web SET app.current_tenant_id = '7f0c1d9e-0000-4000-8000-000000000001';
-- example: SELECT * FROM public.events;  -- logged in as web, no tenant set: that tenant's rows instead of none
SELECT NULL::oid AS relation,
       CASE WHEN r.oid IS NOT NULL THEN format('%I', r.rolname) WHEN d.oid IS NOT NULL THEN format('%I', d.datname)
            ELSE 'ALL' END AS object,
       CASE WHEN r.oid IS NULL AND d.oid IS NOT NULL THEN 'database' ELSE 'role' END AS object_kind,
       concat_ws(' ', lower(x.name), CASE WHEN r.oid IS NOT NULL AND d.oid IS NOT NULL THEN 'in database' END) AS detail,
       format('every session of %s begins with %s set: without a tenant of its own it is in that one',
              concat_ws(' in ', CASE WHEN r.oid IS NOT NULL THEN format('role %I', r.rolname) ELSE 'any role' END,
                        CASE WHEN d.oid IS NOT NULL THEN format('database %I', d.datname) END), x.name) AS message,
       format('pg_db_role_setting, %s', x.name) AS evidence,
       CASE WHEN r.oid IS NOT NULL THEN format('ALTER ROLE %I%s RESET %s;', r.rolname, coalesce(' IN DATABASE ' || quote_ident(d.datname), ''), n.quoted)
            WHEN d.oid IS NOT NULL THEN format('ALTER DATABASE %I RESET %s;', d.datname, n.quoted)
            ELSE format('ALTER ROLE ALL RESET %s;', n.quoted) END AS fix,
       NULL::text AS severity
  FROM pg_db_role_setting s
  LEFT JOIN pg_roles r ON r.oid = s.setrole
  LEFT JOIN pg_database d ON d.oid = s.setdatabase
 CROSS JOIN LATERAL unnest(s.setconfig) AS u(entry)
 CROSS JOIN LATERAL (SELECT split_part(u.entry, '=', 1) AS name, substr(u.entry, strpos(u.entry, '=') + 1) AS value) x
 CROSS JOIN LATERAL (SELECT string_agg(quote_ident(part), '.' ORDER BY position) AS quoted
                       FROM unnest(string_to_array(x.name, '.')) WITH ORDINALITY AS p(part, position)) n
 WHERE (s.setdatabase = 0 OR d.datname = current_database()) AND (s.setrole = 0 OR s.setrole = ANY ($4::oid[])
        -- The logins behind the role begin with their own settings. Those that administer do not serve the platform.
        OR (r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, $6::oid, 'MEMBER')
            AND NOT coalesce(pg_has_role(r.oid, $9::oid, 'MEMBER'), false)))
   AND lower(x.name) IN (SELECT lower(c.name) FROM unnest($8::text[]) AS c(name)) AND x.value <> ''
