-- References between the tenant tables $1, with tenant columns $2, that do not carry the tenant: what is needed to look
-- whether rows of two tenants are joined already.
WITH tenant AS MATERIALIZED (
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind, a.attnum, a.attname::text AS tenant_column, a.atttypid,
           -- A policy that binds whoever asks would hide what is looked for.
           NOT row_security_active(c.oid) AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS visible
      FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant_column)
      JOIN pg_class c ON c.oid = t.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.tenant_column AND NOT a.attisdropped
)
SELECT t.oid AS relation, format('%I.%I', t.schema, t.name) AS object,
       CASE t.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       k.conname::text AS constraint_name, t.relkind = 'p' AS partitioned, p.relkind = 'p' AS parent_partitioned,
       t.schema, t.name, t.tenant_column, p.schema AS parent_schema, p.name AS parent_name, p.tenant_column AS parent_column,
       t.atttypid = p.atttypid AS same_type, t.visible AND p.visible AS visible, x.own, x.other, x.nullable
  FROM pg_constraint k
  JOIN tenant t ON t.oid = k.conrelid
  JOIN tenant p ON p.oid = k.confrelid
 CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY c.position) AS own, array_agg(b.attname::text ORDER BY c.position) AS other,
           bool_and(NOT a.attnotnull) AS nullable, bool_or(c.own = t.attnum AND c.other = p.attnum) AS carried
      FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS c(own, other, position)
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.own
      JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = c.other) x
 WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT x.carried
 ORDER BY t.schema, t.name, k.conname
