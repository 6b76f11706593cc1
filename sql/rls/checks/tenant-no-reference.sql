-- id: tenant-no-reference
-- title: Nothing ties the tenant column to the tenants
-- severity: note
-- why: A row can name a tenant that does not exist, and stays when its tenant is purged: data that nobody sees and nobody deletes.
-- fix: Add a foreign key to the tenants, or one that carries the tenant to a table that has it.
-- example: CREATE TABLE public.notes (tenant_id uuid NOT NULL, body text);
-- example: SELECT * FROM public.notes WHERE tenant_id NOT IN (SELECT id FROM tenancy.tenants);  -- after a purge: the tenant's notes are still there
WITH RECURSIVE
tenant AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, a.attnum, a.attname, a.atttypid
      FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant_column)
      JOIN pg_class c ON c.oid = t.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.tenant_column AND NOT a.attisdropped
),
reference AS MATERIALIZED (
    SELECT t.oid, k.confrelid, k.confkey[array_position(k.conkey, t.attnum)] AS attnum
      FROM tenant t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' AND t.attnum = ANY (k.conkey)
),
-- Tables whose tenant is known to exist: by a reference to a table of the tenants, or to a table that has such a one.
tied(oid) AS (
    SELECT r.oid FROM reference r
     WHERE (r.confrelid, r.attnum) NOT IN (SELECT p.oid, p.attnum FROM tenant p)
    UNION
    SELECT r.oid FROM tied d JOIN reference r ON r.confrelid = d.oid JOIN tenant p ON p.oid = d.oid AND p.attnum = r.attnum
)
SELECT t.oid AS relation, format('%I.%I', t.nspname, t.relname) AS object,
       CASE t.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       format('%I refers to no tenant: a row can name one that does not exist', t.attname) AS message,
       'no foreign key has the tenant column in it' AS evidence,
       format('ALTER TABLE %I.%I ADD FOREIGN KEY (%I) REFERENCES tenancy.tenants (id);', t.nspname, t.relname, t.attname) AS fix,
       NULL::text AS severity
  FROM tenant t
  JOIN pg_attribute k ON k.attrelid = to_regclass('tenancy.tenants') AND k.attname = 'id' AND k.atttypid = t.atttypid
 WHERE NOT t.relispartition AND t.relkind IN ('r', 'p') AND t.oid NOT IN (SELECT oid FROM tied)
   -- A table of the tenants itself is what others refer to.
   AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indisunique AND i.indnkeyatts = 1 AND i.indkey[0] = t.attnum)
