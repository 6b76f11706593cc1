SELECT current_setting('server_version') AS "server_version!",
       current_database()::text AS "database!",
       current_user::text AS "user!",
       -- A view or a type of somebody's own in this place would run their functions.
       t.oid IS NOT NULL AS "present!",
       coalesce(t.relkind = 'r' AND t.relowner = n.nspowner
                AND has_table_privilege(t.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
                AND 2 = (SELECT count(*) FROM pg_attribute a
                          WHERE a.attrelid = t.oid AND (a.attname, a.atttypid) IN (('version', 'bigint'::regtype),
                                                                                   ('success', 'boolean'::regtype))),
                false) AS "readable!"
  FROM (SELECT) one
  LEFT JOIN pg_namespace n ON n.nspname = 'tenancy'
  LEFT JOIN pg_class t ON t.relnamespace = n.oid AND t.relname = '_sqlx_migrations'
