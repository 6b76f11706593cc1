-- The table that a contract names as schema.table, as SQL would or without quotes, and whether it has the column $2.
SELECT c.oid, EXISTS (SELECT FROM pg_attribute a
                       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = $2::text) AS has_column
  FROM (VALUES (1)) AS one
  LEFT JOIN (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind IN ('r', 'p', 'f')
                AND $1::text IN (format('%I.%I', n.nspname, c.relname), format('%s.%s', n.nspname, c.relname))
              ORDER BY format('%I.%I', n.nspname, c.relname) = $1::text DESC LIMIT 1) c ON true
