-- id: role-creates
-- title: The application role may create objects where others look for theirs
-- severity: warning
-- why: A function or table of that name in a schema of the search_path is taken for the real one, by whoever calls it unqualified.
-- fix: Revoke CREATE; let migrations run as another role.
-- example: GRANT CREATE ON SCHEMA public TO tenancy_app;
-- example: CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS 'SELECT note_it($1)';  -- as the application: others call it
WITH path AS (
    -- The setting that is nearest to the application role.
    SELECT coalesce((SELECT o.option_value
                       FROM pg_db_role_setting s CROSS JOIN LATERAL pg_options_to_table(s.setconfig) o
                      WHERE o.option_name = 'search_path' AND s.setrole IN (0, $6)
                        AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
                      ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1),
                    (SELECT s.boot_val FROM pg_settings s WHERE s.name = 'search_path')) AS setting
),
visible AS (
    SELECT coalesce(m.found[1], lower(m.found[2])) AS name
      FROM path CROSS JOIN LATERAL regexp_matches(path.setting, '"([^"]+)"|([^", ]+)', 'g') AS m(found)
),
held AS (
    SELECT format('%I', n.nspname) AS object, 'schema' AS kind, format('SCHEMA %I', n.nspname) AS target, a.grantee
      FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
     WHERE a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner
       AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
       -- The control plane's and the tables' schemas matter wherever they stand in the path.
       AND (n.nspname = 'tenancy' OR n.nspname IN (SELECT v.name FROM visible v)
            OR n.oid IN (SELECT c.relnamespace FROM unnest($1::oid[]) AS t(oid) JOIN pg_class c ON c.oid = t.oid))
    UNION ALL
    SELECT format('%I', d.datname), 'database', format('DATABASE %I', d.datname), a.grantee
      FROM pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) a
     WHERE d.datname = current_database() AND a.privilege_type = 'CREATE' AND a.grantee <> d.datdba
)
SELECT NULL::oid AS relation, h.object, h.kind AS object_kind, '' AS detail,
       CASE h.kind WHEN 'schema' THEN 'the application may put objects of its own into a schema that others use'
                   ELSE 'the application may create schemas, and publications and extensions with them' END AS message,
       format('CREATE held through %s', string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ', ')) AS evidence,
       format('REVOKE CREATE ON %s FROM %s;', h.target, string_agg(DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC'), ', ')) AS fix,
       NULL::text AS severity
  FROM held h
  LEFT JOIN pg_roles r ON r.oid = h.grantee
 WHERE h.grantee = 0 OR (h.grantee = ANY ($4::oid[]) AND NOT r.rolsuper)
 GROUP BY h.object, h.kind, h.target
