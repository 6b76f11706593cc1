-- id: tenant-default
-- title: The tenant column has a constant default
-- severity: warning
-- why: An INSERT that names no tenant files the row under the one of the default: that tenant reads what belongs to another.
-- fix: Drop the default, or take it from the context.
-- example: ALTER TABLE public.events ALTER COLUMN tenant_id SET DEFAULT '7f0c1d9e-0000-4000-8000-000000000001';
-- example: INSERT INTO public.events (title) VALUES ('board meeting');  -- by a job that forgot the tenant: one tenant reads it
WITH preset AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, a.attname, y.typname, s.nspname AS type_schema, d.oid AS own,
           coalesce(pg_get_expr(d.adbin, d.adrelid), y.typdefault) AS expression
      FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant_column)
      JOIN pg_class c ON c.oid = t.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN LATERAL (SELECT a.* FROM pg_attribute a
                           WHERE a.attrelid = t.oid AND a.attname = t.tenant_column AND NOT a.attisdropped OFFSET 0) a
      JOIN pg_type y ON y.oid = a.atttypid
      JOIN pg_namespace s ON s.oid = y.typnamespace
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE a.attgenerated = '' AND (d.oid IS NOT NULL OR y.typdefault IS NOT NULL)
)
SELECT p.oid AS relation, format('%I.%I', p.nspname, p.relname) AS object,
       CASE p.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       format('a row that names no tenant belongs to the one that %I defaults to', p.attname) AS message,
       format('DEFAULT %s', p.expression) AS evidence,
       CASE WHEN p.own IS NOT NULL THEN format('ALTER TABLE %I.%I ALTER COLUMN %I DROP DEFAULT;', p.nspname, p.relname, p.attname)
            ELSE format('ALTER DOMAIN %I.%I DROP DEFAULT;', p.type_schema, p.typname) END AS fix,
       NULL::text AS severity
  FROM preset p
 -- A literal, cast or not; NULL is no tenant.
 WHERE p.expression ~ '^\(*(''(?:[^'']|'''')*''|-?[0-9]+)\)*(::[[:alnum:]_." ()]+)*$'
