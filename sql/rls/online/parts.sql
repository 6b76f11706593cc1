-- The table $1 itself, or the partitions that hold its rows, each with what it has of the index on the column $2 and of the
-- reference to the tenants: those that PostgreSQL takes over for the whole table, those that an interrupted run left.
WITH RECURSIVE parts AS (
    SELECT $1::oid AS relation
    UNION ALL
    SELECT i.inhrelid FROM parts p
      JOIN pg_inherits i ON i.inhparent = p.relation
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
),
made AS MATERIALIZED (
    SELECT m.relation::oid AS relation, m.kind, m.object FROM tenancy.isolation_changes m
     WHERE m.relation::oid IN (SELECT relation FROM parts) AND NOT m.taken
),
alike AS MATERIALIZED (
    SELECT i.indrelid, i.indexrelid, i.indisvalid, c.relname,
           EXISTS (SELECT FROM made m WHERE m.relation = i.indrelid AND m.kind = 'index' AND m.object = c.relname) AS ours
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid AND NOT c.relispartition
      JOIN pg_am m ON m.oid = c.relam AND m.amname = 'btree'
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND a.attname = $2::text
      JOIN pg_opclass o ON o.oid = i.indclass[0] AND o.opcdefault
     WHERE i.indrelid IN (SELECT relation FROM parts) AND i.indnatts = 1 AND NOT i.indisunique
       AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indcollation[0] = a.attcollation
)
SELECT c.oid AS "relation!", n.oid AS "schema!", n.nspname::text AS "schema_name!", c.relname::text AS "table!", format('%I.%I', n.nspname, c.relname) AS "name!",
       EXISTS (SELECT FROM alike a WHERE a.indrelid = c.oid AND a.indisvalid) AS "indexed!",
       ARRAY(SELECT a.relname::text FROM alike a WHERE a.indrelid = c.oid AND NOT a.indisvalid ORDER BY a.ours DESC, a.relname) AS "leftovers!",
       (SELECT count(*) FROM alike a WHERE a.indrelid = c.oid AND NOT a.indisvalid AND a.ours) AS "ours!",
       -- Without the right to see what others do, whoever builds an index on this table may be building one like it.
       (SELECT b.pid FROM pg_stat_progress_create_index b
          JOIN pg_locks k ON k.pid = b.pid AND k.relation = c.oid AND k.mode = 'ShareUpdateExclusiveLock' AND k.granted
         WHERE k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
           AND EXISTS (SELECT FROM alike a WHERE a.indrelid = c.oid AND NOT a.indisvalid
                          AND coalesce(nullif(b.index_relid, 0), a.indexrelid) = a.indexrelid) LIMIT 1) AS "builder?",
       f.conname::text AS "reference?", f.convalidated AS "reference_valid?", f.ours AS "reference_ours?"
  FROM parts p
  JOIN pg_class c ON c.oid = p.relation AND c.relkind = 'r'
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
    SELECT k.conname, k.convalidated, x.ours
      FROM pg_constraint k
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum] AND a.attname = $2::text
      CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM made m WHERE m.relation = k.conrelid AND m.kind = 'constraint'
                                            AND m.object = k.conname) AS ours) x
     WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confrelid = 'tenancy.tenants'::regclass AND k.conparentid = 0
       AND k.confmatchtype = 's' AND k.confupdtype = 'a' AND k.confdeltype = 'a' AND NOT k.condeferrable
       AND (k.convalidated OR x.ours)
     ORDER BY k.convalidated DESC, k.conname LIMIT 1) f ON true
 ORDER BY n.nspname, c.relname
