-- id: role-replication
-- title: The application role is, or can become, a role with REPLICATION
-- severity: error
-- why: A replication slot reads the write-ahead log, and with it the rows of every tenant and of every database.
-- fix: Take the attribute from the role; let replication log in with a role of its own.
-- example: ALTER ROLE tenancy_app REPLICATION;
-- example: SELECT pg_create_logical_replication_slot('s', 'test_decoding');  -- as the application
-- example: SELECT data FROM pg_logical_slot_get_changes('s', NULL, NULL);  -- every tenant's writes
SELECT NULL::oid AS relation, format('%I', r.rolname) AS object, 'role' AS object_kind, '' AS detail,
       CASE WHEN r.oid = $6 THEN 'the application role may read the write-ahead log'
            ELSE format('the application can become %I, which may read the write-ahead log', r.rolname) END AS message,
       format('rolreplication is true; wal_level is %s', current_setting('wal_level')) AS evidence,
       format('ALTER ROLE %I NOREPLICATION;', r.rolname) AS fix,
       NULL::text AS severity
  FROM pg_roles r
 WHERE r.oid = ANY ($5::oid[]) AND r.rolreplication AND NOT r.rolsuper
