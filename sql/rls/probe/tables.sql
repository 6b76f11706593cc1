-- The tables $1 and every table that they reference, with their partition bounds.
WITH RECURSIVE needed(oid) AS (
    SELECT unnest($1::oid[])
    UNION
    SELECT k.confrelid FROM needed n JOIN pg_constraint k ON k.conrelid = n.oid AND k.contype = 'f'
)
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relowner::regrole::text AS owner,
       c.relkind = 'f' AS is_foreign,
       coalesce((SELECT array_agg(k.attnum::int2) FROM pg_partitioned_table p, unnest(p.partattrs::int2[]) AS k(attnum)
                  WHERE p.partrelid IN (c.oid, i.inhparent) AND k.attnum > 0), '{}') AS partition_keys,
       coalesce((SELECT string_agg(pg_get_expr(b.relpartbound, b.oid), ' ' ORDER BY b.oid)
                   FROM pg_inherits h JOIN pg_class b ON b.oid = h.inhrelid
                  WHERE h.inhparent = c.oid AND b.relispartition), '') || ' '
           || coalesce(pg_get_expr(c.relpartbound, c.oid), '') AS bounds
  FROM needed d JOIN pg_class c ON c.oid = d.oid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.relispartition
 ORDER BY c.oid
