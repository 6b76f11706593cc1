-- Whose the control plane is, if it is there: asked of the catalogue alone, which everybody may read.
SELECT pg_get_userbyid(n.nspowner)::text AS "schema_owner!", pg_get_userbyid(c.relowner)::text AS "table_owner!"
  FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
 WHERE n.nspname = 'tenancy' AND c.relname = '_sqlx_migrations'
