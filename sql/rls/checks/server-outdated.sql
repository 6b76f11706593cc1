-- id: server-outdated
-- title: The server lacks a fix for row-level security
-- severity: warning
-- why: PostgreSQL itself had ways past the policies; what is published about them is a manual for whoever finds an old server.
-- fix: Install the newest minor release; where the fix is in the catalogue, run the statement that comes with it in every database.
-- example: SELECT version();  -- 15.8
-- example: SET ROLE other_tenant; EXECUTE prepared;  -- a plan made for another role keeps that role's policies (CVE-2024-10976)
-- The newest row is a note: distributions take weeks to deliver a release, and a check that fails every pipeline on the
-- day of a release gets switched off. The next row that is added takes its place.
WITH fixed(cve, what, branch, minor, severity) AS (
    VALUES ('CVE-2023-2455', 'policies of another role apply after inlining of a function', 15, 3, 'warning'),
           ('CVE-2023-39418', 'MERGE does not enforce UPDATE and SELECT policies', 15, 4, 'warning'),
           ('CVE-2024-10976', 'a cached plan keeps the policies of another role', 15, 9, 'warning'),
           ('CVE-2024-10976', 'a cached plan keeps the policies of another role', 16, 5, 'warning'),
           ('CVE-2024-10976', 'a cached plan keeps the policies of another role', 17, 1, 'warning'),
           ('CVE-2025-8713', 'planner statistics show values of hidden rows', 15, 14, 'warning'),
           ('CVE-2025-8713', 'planner statistics show values of hidden rows', 16, 10, 'warning'),
           ('CVE-2025-8713', 'planner statistics show values of hidden rows', 17, 6, 'warning'),
           ('CVE-2026-14666', 'a way past the policies', 15, 19, 'note'),
           ('CVE-2026-14666', 'a way past the policies', 16, 15, 'note'),
           ('CVE-2026-14666', 'a way past the policies', 17, 11, 'note'),
           ('CVE-2026-14666', 'a way past the policies', 18, 6, 'note')
),
server AS (
    SELECT number, number / 10000 AS branch, number % 10000 AS minor, current_setting('server_version') AS version
      FROM (SELECT current_setting('server_version_num')::int AS number) v
)
SELECT NULL::oid AS relation, 'server' AS object, 'server' AS object_kind, f.cve AS detail,
       format('PostgreSQL %s lacks the fix of %s: %s', s.version, f.cve, f.what) AS message,
       format('server_version_num %s; fixed in %s.%s', s.number, f.branch, f.minor) AS evidence,
       format('-- Install PostgreSQL %s.%s or newer and restart the server; then SHOW server_version;', f.branch, f.minor) AS fix,
       f.severity
  FROM server s JOIN fixed f ON f.branch = s.branch AND s.minor < f.minor
UNION ALL
-- An upgrade leaves the views of a cluster that was initialised before it as they were.
SELECT NULL, format('pg_catalog.%I', v.relname), 'view', 'CVE-2024-4317',
       format('%I shows statistics of rows that the reader may not see (CVE-2024-4317)', v.relname),
       'the view does not ask who owns the table',
       -- What the release's own script does, and nothing is left of the readers' rights but the owner's.
       format('REVOKE ALL ON pg_catalog.%I FROM PUBLIC;  -- or, in every database, fix-CVE-2024-4317.sql of the server''s share directory', v.relname),
       'warning'
  FROM pg_class v
 WHERE v.oid IN ('pg_catalog.pg_stats_ext'::regclass, 'pg_catalog.pg_stats_ext_exprs'::regclass)
   AND pg_get_viewdef(v.oid) !~ 'pg_has_role'
   AND EXISTS (SELECT FROM unnest($4::oid[]) AS role(oid) WHERE has_table_privilege(role.oid, v.oid, 'SELECT'))
