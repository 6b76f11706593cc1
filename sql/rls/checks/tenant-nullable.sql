-- id: tenant-nullable
-- title: A row can belong to no tenant
-- severity: warning
-- why: A row without a tenant is invisible to all of them, or visible to all of them; it is counted for none.
-- fix: Fill the rows that have none, then set the column NOT NULL.
-- example: CREATE TABLE public.events (tenant_id uuid, title text);
-- example: INSERT INTO public.events (title) VALUES ('lost');  -- by a job that forgot the tenant: no tenant sees the row again
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       format('tenant column %I may be NULL', a.attname) AS message,
       'attnotnull is false' AS evidence,
       format('ALTER TABLE %I.%I ALTER COLUMN %I SET NOT NULL;', n.nspname, c.relname, a.attname) AS fix,
       NULL::text AS severity
  FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant_column)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.tenant_column AND NOT a.attisdropped
  JOIN pg_type y ON y.oid = a.atttypid
 WHERE NOT a.attnotnull AND NOT y.typnotnull AND NOT c.relispartition
   AND NOT EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.convalidated
                      AND pg_get_constraintdef(k.oid) = format('CHECK ((%I IS NOT NULL))', a.attname))
