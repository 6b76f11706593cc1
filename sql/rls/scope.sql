-- The tenant tables: registered ones with their partitions and inheritance children, and whatever has a column named
-- like a tenant column. And the shared ones, with theirs.
-- $1 registered relations, $2 their kinds, $3 their tenant columns, $4 names of tenant columns, $5 roles in reach, $6 the
-- schemas to look at beside what is registered, none for all
WITH RECURSIVE
registered AS (
    SELECT DISTINCT ON (r.oid) * FROM unnest($1::oid[], $2::text[], $3::text[]) AS r(oid, kind, tenant_column)
),
classified(oid, kind, tenant_column, registered) AS (
    SELECT oid, kind, tenant_column, true FROM registered
    UNION
    SELECT i.inhrelid, k.kind, k.tenant_column, false
      FROM classified k JOIN pg_inherits i ON i.inhparent = k.oid
     WHERE NOT EXISTS (SELECT FROM registered r WHERE r.oid = i.inhrelid)
),
-- Each once, by what is registered itself where that differs from its parent's.
known AS MATERIALIZED (
    SELECT DISTINCT ON (oid) * FROM classified ORDER BY oid, registered DESC
),
relation AS (
    SELECT c.oid, c.relname, n.nspname, n.oid AS nspoid, c.relkind, c.relrowsecurity, c.relispartition, c.relowner, c.relforcerowsecurity
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
       AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
),
named AS (
    SELECT DISTINCT ON (a.attrelid) a.attrelid AS oid, a.attname::text AS tenant_column
      FROM pg_attribute a JOIN unnest($4::text[]) WITH ORDINALITY AS w(name, position) ON a.attname = w.name
     WHERE a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attrelid, w.position
),
tables AS (
    SELECT r.*, coalesce(k.kind, 'tenant') AS kind, coalesce(k.tenant_column, m.tenant_column) AS tenant_column,
           coalesce(k.registered, false) AS registered
      FROM relation r
      LEFT JOIN known k ON k.oid = r.oid
      LEFT JOIN named m ON m.oid = r.oid
     WHERE k.oid IS NOT NULL
        OR m.oid IS NOT NULL AND (cardinality($6::text[]) = 0 OR r.nspname = ANY ($6::text[]))
),
child AS (
    SELECT DISTINCT i.inhrelid AS oid FROM pg_inherits i JOIN tables p ON p.oid = i.inhparent WHERE p.kind = 'tenant'
)
SELECT t.oid, format('%I.%I', t.nspname, t.relname) AS name, t.nspname::text AS schema, t.relname::text AS relname,
       CASE t.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       t.kind, t.tenant_column, t.relrowsecurity AS row_security, t.relispartition AS is_partition,
       h.oid IS NOT NULL AS is_child,
       NOT t.relforcerowsecurity AND t.relowner = ANY ($5::oid[]) AS owner_unbound,
       EXISTS (SELECT FROM unnest($5::oid[]) AS role(oid)
                WHERE has_schema_privilege(role.oid, t.nspoid, 'USAGE')
                  AND (has_table_privilege(role.oid, t.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                       OR has_any_column_privilege(role.oid, t.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))) AS reachable
  FROM tables t
  LEFT JOIN child h ON h.oid = t.oid
 ORDER BY t.nspname, t.relname
