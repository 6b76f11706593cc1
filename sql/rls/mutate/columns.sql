-- What the role $2 may do to each column of the table $1.
SELECT a.attnum, has_column_privilege($2, a.attrelid, a.attnum, 'INSERT') AS inserts,
       has_column_privilege($2, a.attrelid, a.attnum, 'UPDATE') AS updates
  FROM pg_attribute a
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
