-- id: unindexed-tenant-column
-- title: No index leads with the tenant column
-- severity: warning
-- why: Every query of every tenant filters by the tenant; without an index each reads all tenants' rows.
-- fix: Create an index whose first column is the tenant column.
-- example: CREATE TABLE public.events (id uuid PRIMARY KEY, tenant_id uuid NOT NULL);
-- example: EXPLAIN SELECT * FROM public.events;  -- as the application: Seq Scan, over all tenants' rows
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       '' AS detail,
       format('no index leads with %I', a.attname) AS message,
       format('%s rows estimated', greatest(c.reltuples, 0)::bigint) AS evidence,
       format('CREATE INDEX ON %I.%I (%I);', n.nspname, c.relname, a.attname) AS fix,
       NULL::text AS severity
  FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant_column)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = t.tenant_column AND NOT a.attisdropped
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND NOT EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indpred IS NULL AND i.indisvalid)
