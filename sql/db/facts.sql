SELECT current_setting('server_version') AS "server_version!",
       current_database()::text AS "database!",
       current_user::text AS "user!",
       -- The table can only be named to has_table_privilege where it exists.
       coalesce((SELECT has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(c.relnamespace, 'USAGE')
                   FROM pg_class c
                  WHERE c.relname = '_sqlx_migrations' AND c.relnamespace = to_regnamespace('tenancy')), false)
           AS "readable!"
