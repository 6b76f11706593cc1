-- The columns of the tables $1, with what a value must look like to fit.
WITH RECURSIVE base(type, oid, basetype, typmod, not_null, checks) AS (
    SELECT DISTINCT y.oid, y.oid, y.typbasetype, -1, y.typnotnull,
           (SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_constraint k WHERE k.contypid = y.oid)
      FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
     WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.type, y.oid, y.typbasetype, coalesce(nullif(b.typmod, -1), d.typtypmod), b.not_null OR y.typnotnull,
           concat_ws(' ', b.checks,
                     (SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_constraint k WHERE k.contypid = y.oid))
      FROM base b JOIN pg_type d ON d.oid = b.oid JOIN pg_type y ON y.oid = b.basetype
     WHERE b.basetype <> 0
)
SELECT a.attrelid AS relation, a.attnum, a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type_name,
       y.typname::text AS base, y.typtype::text AS kind, y.typcategory::text AS category,
       coalesce(format_type(nullif(coalesce(nullif(y.typelem, 0), r.rngsubtype), 0), NULL), '') AS element,
       coalesce(nullif(a.atttypmod, -1), b.typmod) AS typmod,
       a.attnotnull OR b.not_null AS not_null,
       a.atthasdef AND a.attgenerated = '' AS has_default,
       a.attidentity <> '' AS is_identity, a.attgenerated <> '' AS is_generated,
       coalesce(pg_get_expr(f.adbin, f.adrelid) LIKE 'nextval(%', false) AS is_serial,
       coalesce((SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e
                  WHERE e.enumtypid IN (y.oid, y.typelem)), '{}') AS labels,
       coalesce(b.checks, '') AS domain_checks
  FROM pg_attribute a
  JOIN base b ON b.type = a.atttypid AND b.basetype = 0
  JOIN pg_type y ON y.oid = b.oid
  LEFT JOIN pg_range r ON r.rngtypid = y.oid
  LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
 WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
