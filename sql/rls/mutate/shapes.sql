-- For each of the tables $1 what a weakening could meet differently: the policies' text, the flags, the owner, the type
-- and name of the tenant column ($2), and what the role $3 was granted. Tables of one shape need to be weakened once. And
-- whether a foreign key of another points at it.
SELECT t.oid,
       concat_ws(E'\x1f', c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.relowner,
                 a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                 has_table_privilege($3, c.oid, 'SELECT'), has_table_privilege($3, c.oid, 'INSERT'),
                 has_any_column_privilege($3, c.oid, 'SELECT'), has_any_column_privilege($3, c.oid, 'INSERT'),
                 has_any_column_privilege($3, c.oid, 'UPDATE'), has_table_privilege($3, c.oid, 'DELETE'),
                 has_table_privilege($3, c.oid, 'TRUNCATE'),
                 a.attnum IS NOT NULL AND has_column_privilege($3, c.oid, a.attnum, 'UPDATE'),
                 (SELECT string_agg(concat_ws(E'\x1e', p.polname, p.polpermissive, p.polcmd, p.polroles,
                                              pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)),
                                    E'\x1d' ORDER BY p.polname)
                    FROM pg_policy p WHERE p.polrelid = c.oid)) AS shape,
       EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = c.oid AND k.contype = 'f') AS referenced
  FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant) JOIN pg_class c ON c.oid = t.oid
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.tenant AND NOT a.attisdropped
