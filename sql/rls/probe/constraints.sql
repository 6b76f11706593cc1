-- The constraints and unique indexes of the tables $1.
SELECT k.conrelid AS relation, k.conname::text AS name, k.contype::text AS kind,
       coalesce(k.conkey, '{}')::int2[] AS columns, k.confrelid AS referenced, coalesce(k.confkey, '{}')::int2[] AS referenced_columns,
       k.condeferrable AS is_deferrable, CASE WHEN k.contype = 'c' THEN pg_get_constraintdef(k.oid) ELSE '' END AS definition
  FROM pg_constraint k WHERE k.conrelid = ANY ($1) AND k.contype IN ('c', 'f', 'x')
UNION ALL
SELECT i.indrelid, c.relname::text, 'u',
       (SELECT coalesce(array_agg(DISTINCT d.refobjsubid::int2), '{}') FROM pg_depend d
         WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid > 0)
       || (SELECT coalesce(array_agg(n), '{}') FROM unnest(i.indkey::int2[]) AS n WHERE n > 0),
       0, '{}', NOT i.indimmediate,
       CASE WHEN i.indpred IS NOT NULL OR i.indexprs IS NOT NULL THEN pg_get_indexdef(i.indexrelid) ELSE '' END
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = ANY ($1) AND i.indisunique
