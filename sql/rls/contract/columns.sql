-- The columns of the tables $1, with the first value of an enumeration, and what each references by itself.
SELECT a.attrelid AS relation, a.attname::text AS name, format('%I', a.attname) AS quoted, b.typname::text AS type_name,
       b.typcategory::text AS category, CASE WHEN b.typname IN ('varchar', 'bpchar') AND a.atttypmod > 4 THEN a.atttypmod - 4 END AS length,
       a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS required,
       (SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = b.oid ORDER BY e.enumsortorder LIMIT 1) AS label,
       k.confrelid AS target, k.attname::text AS target_column,
       -- A trigger on what it references may make the row already.
       EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = k.confrelid AND NOT g.tgisinternal)
           AND EXISTS (SELECT FROM pg_index x WHERE x.indrelid = a.attrelid AND x.indisunique AND x.indkey::text = a.attnum::text) AS made
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
  LEFT JOIN LATERAL (SELECT k.confrelid, f.attname
                       FROM pg_constraint k JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[1]
                      WHERE k.contype = 'f' AND k.conrelid = a.attrelid AND k.conkey = ARRAY[a.attnum]
                      ORDER BY k.oid LIMIT 1) k ON true
 WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
