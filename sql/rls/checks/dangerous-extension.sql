-- id: dangerous-extension
-- title: The application role can use an extension or language that leaves its confinement
-- severity: warning
-- why: A connection that the server itself opens, or code that it runs as its own account, is bound by no policy of this session.
-- fix: Revoke EXECUTE from PUBLIC and the application role; install such extensions in a schema of their own.
-- example: CREATE EXTENSION dblink;
-- example: SELECT * FROM dblink('dbname=platform user=admin', 'SELECT title FROM events') AS t(title text);  -- as the application
WITH opening AS (
    SELECT f.oid, f.pronamespace, e.oid AS source, e.extname::text AS name, 'extension' AS kind,
           CASE WHEN e.extname = 'dblink' THEN 'opens connections to databases, this one included'
                ELSE 'opens connections to any address' END AS does
      FROM pg_extension e
      JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
                      AND d.classid = 'pg_proc'::regclass
      JOIN pg_proc f ON f.oid = d.objid
     WHERE e.extname = 'dblink' AND f.proname IN ('dblink', 'dblink_connect', 'dblink_connect_u', 'dblink_exec', 'dblink_open',
                                                  'dblink_send_query')
        OR e.extname IN ('http', 'pg_net', 'pgsql-http') AND f.proname LIKE 'http%'
    UNION ALL
    SELECT f.oid, f.pronamespace, l.oid, l.lanname, 'language', 'runs code with the rights of the server''s own account'
      FROM pg_language l
      JOIN pg_proc f ON f.prolang = l.oid
     -- c and internal belong to the server and its extensions.
     WHERE l.lanispl AND NOT l.lanpltrusted
       AND f.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
),
callable AS (
    SELECT o.*, r.rolname
      FROM opening o JOIN pg_roles r ON r.oid = ANY ($4::oid[]) AND NOT r.rolsuper
     WHERE has_schema_privilege(r.oid, o.pronamespace, 'USAGE') AND has_function_privilege(r.oid, o.oid, 'EXECUTE')
),
callers AS (
    SELECT source, string_agg(DISTINCT quote_ident(rolname), ', ') AS quoted FROM callable GROUP BY source
)
SELECT NULL::oid AS relation, format('%I', c.name) AS object, c.kind AS object_kind, '' AS detail,
       format('%s %s, and the application role may call it', c.kind, c.does) AS message,
       format('EXECUTE on %s', string_agg(DISTINCT c.oid::regprocedure::text, ', ')) AS evidence,
       format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, %s;',
              string_agg(DISTINCT format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)), ', '),
              min(k.quoted)) AS fix,
       NULL::text AS severity
  FROM callable c
  JOIN callers k ON k.source = c.source
  JOIN pg_proc f ON f.oid = c.oid
  JOIN pg_namespace n ON n.oid = f.pronamespace
 GROUP BY c.source, c.name, c.kind, c.does
UNION ALL
SELECT NULL, format('%I', w.fdwname), 'foreign data wrapper', '',
       'the application role may make servers of its own with it, to any address',
       format('USAGE held through %s', string_agg(DISTINCT r.rolname, ', ')),
       format('REVOKE USAGE ON FOREIGN DATA WRAPPER %I FROM PUBLIC, %s;', w.fdwname, string_agg(DISTINCT quote_ident(r.rolname), ', ')),
       NULL
  FROM pg_foreign_data_wrapper w
  JOIN pg_roles r ON r.oid = ANY ($4::oid[]) AND NOT r.rolsuper
 WHERE has_foreign_data_wrapper_privilege(r.oid, w.oid, 'USAGE')
 GROUP BY w.oid, w.fdwname
