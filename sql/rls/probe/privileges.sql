-- What each of the roles $2 may do to each of the tables $1. Pairs without any right are left out.
SELECT t.oid AS relation, r.oid AS role,
       coalesce((SELECT array_agg(a.attnum) FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND has_column_privilege(r.oid, t.oid, a.attnum, 'SELECT')), '{}') AS selects,
       coalesce((SELECT array_agg(a.attnum) FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND has_column_privilege(r.oid, t.oid, a.attnum, 'INSERT')), '{}') AS inserts,
       coalesce((SELECT array_agg(a.attnum) FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND has_column_privilege(r.oid, t.oid, a.attnum, 'UPDATE')), '{}') AS updates,
       has_table_privilege(r.oid, t.oid, 'DELETE') AS deletes,
       has_table_privilege(r.oid, t.oid, 'TRUNCATE') AND NOT pg_has_role(r.oid, c.relowner, 'USAGE') AS truncates
  FROM unnest($1::oid[]) AS t(oid)
  JOIN pg_class c ON c.oid = t.oid
  CROSS JOIN unnest($2::oid[]) AS r(oid)
 WHERE has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
   AND (has_any_column_privilege(r.oid, t.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r.oid, t.oid, 'DELETE'))
