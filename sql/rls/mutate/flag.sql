-- A column of the table $1 that could pass for a sign that everybody may see the row, and the value that says so: one of
-- type boolean, else a plain text. Not the tenant column $2, and no part of a key.
SELECT quote_ident(a.attname), CASE a.atttypid WHEN 'boolean'::regtype THEN 'true' ELSE quote_literal('public') END
  FROM pg_attribute a
 WHERE a.attrelid = $1 AND a.attname <> $2 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
   AND a.atttypid IN ('boolean'::regtype, 'text'::regtype, 'character varying'::regtype)
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey) AND k.contype IN ('p', 'u', 'f', 'x'))
 ORDER BY a.atttypid <> 'boolean'::regtype, a.attnum
 LIMIT 1
