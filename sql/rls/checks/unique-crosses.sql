-- id: unique-crosses
-- title: A unique key goes across the tenants
-- severity: warning
-- why: An error on a value that nobody in one's own tenant has tells that another tenant has it; and who comes first takes the name from all.
-- fix: Put the tenant column into the key.
-- example: CREATE TABLE public.customers (tenant_id uuid NOT NULL, email text UNIQUE);
-- example: INSERT INTO public.customers VALUES (tenancy.current_tenant_id(), 'ceo@rival.com');  -- 23505: some tenant has this customer
WITH tenant AS MATERIALIZED (
    SELECT c.oid, c.relnamespace, n.nspname, c.relname, c.relkind, a.attnum, a.attname
      FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant_column)
      JOIN pg_class c ON c.oid = t.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN LATERAL (SELECT a.* FROM pg_attribute a
                           WHERE a.attrelid = t.oid AND a.attname = t.tenant_column AND NOT a.attisdropped OFFSET 0) a
),
key AS MATERIALIZED (
    SELECT i.indexrelid, i.indrelid, i.indisprimary, i.indexprs IS NOT NULL AS has_expressions, i.indpred IS NOT NULL AS partial,
           t.relnamespace, t.nspname, t.relname, t.relkind, t.attnum AS tenant, t.attname AS tenant_column,
           k.oid AS constraint, k.conname, k.contype, k.conexclop, x.relname AS index_name, x.relam,
           (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns, i.indexprs
      FROM pg_index i
      JOIN tenant t ON t.oid = i.indrelid
      JOIN pg_class x ON x.oid = i.indexrelid AND NOT x.relispartition
      LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
     WHERE (i.indisunique OR i.indisexclusion) AND i.indisvalid
       -- Nearly all keys carry the tenant, and are done with here.
       AND (i.indisexclusion OR t.attnum <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
       -- A table with one row for each tenant: what tenants are told by has to be unique.
       AND NOT EXISTS (SELECT FROM pg_index o WHERE o.indrelid = t.oid AND o.indisunique AND o.indnkeyatts = 1
                          AND o.indkey[0] = t.attnum AND o.indpred IS NULL)
),
crossing AS MATERIALIZED (
    SELECT k.*
      FROM key k
     WHERE NOT EXISTS (SELECT FROM unnest(k.columns, k.conexclop) AS c(attnum, operator)
                        WHERE c.attnum = k.tenant
                          -- In an exclusion constraint the tenant counts where it is compared for equality.
                          AND (c.operator IS NULL OR (SELECT o.oprname FROM pg_operator o WHERE o.oid = c.operator) = '='))
       -- What nobody can guess tells nothing: an id that the database makes, or one that refers to such.
       AND NOT EXISTS (
            SELECT FROM unnest(k.columns) AS c(attnum)
              JOIN pg_attribute a ON a.attrelid = k.indrelid AND a.attnum = c.attnum
              LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attidentity <> '' OR a.attname ~* 'token|secret'
                OR pg_get_expr(d.adbin, d.adrelid) ~* '(nextval|uuid|random|ulid|ksuid|nanoid|snowflake)'
                -- The number that alone is the primary key comes from a sequence, on whichever side that is.
                OR (k.indisprimary AND cardinality(k.columns) = 1 AND a.atttypid IN ('int8'::regtype, 'int4'::regtype))
                OR (a.atttypid = 'uuid'::regtype
                    AND NOT EXISTS (SELECT FROM pg_constraint f
                                     WHERE f.conrelid = k.indrelid AND f.contype = 'f' AND f.conkey = ARRAY[a.attnum]
                                       AND f.confrelid <> ALL ($1::oid[]))))
       AND NOT (k.has_expressions
                AND pg_get_expr(k.indexprs, k.indrelid) ~ ('(^|[^[:alnum:]_])' || regexp_replace(quote_ident(k.tenant_column), '([^[:alnum:]_])', '\\\1', 'g') || '([^[:alnum:]_]|$)'))
       AND EXISTS (SELECT FROM unnest($4::oid[]) AS role(oid)
                    WHERE has_schema_privilege(role.oid, k.relnamespace, 'USAGE')
                      AND (has_table_privilege(role.oid, k.indrelid, 'INSERT, UPDATE')
                           OR has_any_column_privilege(role.oid, k.indrelid, 'INSERT, UPDATE')))
),
-- References to the key have to let go of it, and come back with the tenant where the other table has one.
named AS (
    SELECT k.indexrelid, f.oid, f.conname, n.nspname, c.relname, t.attname AS own_tenant, k.nspname AS parent_schema, k.relname AS parent_name,
           k.tenant_column, f.confupdtype, f.confdeltype, f.condeferrable, f.condeferred,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.position)
              FROM unnest(f.conkey) WITH ORDINALITY AS x(attnum, position)
              JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = x.attnum) AS own_columns,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.position)
              FROM unnest(f.confkey) WITH ORDINALITY AS x(attnum, position)
              JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = x.attnum) AS other_columns
      FROM crossing k
      JOIN pg_constraint f ON f.conindid = k.indexrelid AND f.contype = 'f' AND f.conparentid = 0
      JOIN pg_class c ON c.oid = f.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN tenant t ON t.oid = f.conrelid
),
reference AS (
    SELECT r.indexrelid,
           string_agg(format('ALTER TABLE %I.%I DROP CONSTRAINT %I;', r.nspname, r.relname, r.conname), ' ' ORDER BY r.oid) AS away,
           string_agg(CASE WHEN r.own_tenant IS NULL THEN format('-- %I.%I has no tenant column and loses its reference.', r.nspname, r.relname)
                           ELSE format('ALTER TABLE %I.%I ADD CONSTRAINT %I FOREIGN KEY (%I, %s) REFERENCES %I.%I (%I, %s)%s%s%s;',
                                       r.nspname, r.relname, r.conname, r.own_tenant, r.own_columns, r.parent_schema, r.parent_name,
                                       r.tenant_column, r.other_columns,
                                       CASE r.confupdtype WHEN 'c' THEN ' ON UPDATE CASCADE' WHEN 'r' THEN ' ON UPDATE RESTRICT' ELSE '' END,
                                       CASE r.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT'
                                                          WHEN 'n' THEN format(' ON DELETE SET NULL (%s)', r.own_columns)
                                                          WHEN 'd' THEN format(' ON DELETE SET DEFAULT (%s)', r.own_columns) ELSE '' END,
                                       CASE WHEN r.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' WHEN r.condeferrable THEN ' DEFERRABLE' ELSE '' END) END,
                      ' ' ORDER BY r.own_tenant IS NULL, r.oid) AS back
      FROM named r GROUP BY r.indexrelid
)
SELECT k.indrelid AS relation, format('%I.%I', k.nspname, k.relname) AS object,
       CASE k.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       k.index_name::text AS detail,
       format('%s %I does not carry the tenant: a conflict tells that another tenant has the value',
              CASE k.contype WHEN 'p' THEN 'the primary key' WHEN 'u' THEN 'the unique constraint' WHEN 'x' THEN 'the exclusion constraint'
                             ELSE CASE WHEN k.has_expressions THEN 'the unique expression index' WHEN k.partial THEN 'the partial unique index'
                                       ELSE 'the unique index' END END, k.index_name) AS message,
       CASE WHEN k.constraint IS NULL THEN pg_get_indexdef(k.indexrelid) ELSE pg_get_constraintdef(k.constraint) END AS evidence,
       concat_ws(' ', r.away,
           CASE WHEN k.contype = 'x' AND (SELECT amname FROM pg_am m WHERE m.oid = k.relam) = 'gist' THEN 'CREATE EXTENSION IF NOT EXISTS btree_gist;' END,
           CASE WHEN k.constraint IS NULL
                THEN format('DROP INDEX %I.%I; %s;', k.nspname, k.index_name,
                            regexp_replace(pg_get_indexdef(k.indexrelid), '( USING \w+ \()', '\1' || replace(quote_ident(k.tenant_column), '\', '\\') || ', '))
                ELSE format('ALTER TABLE %I.%I DROP CONSTRAINT %I, ADD CONSTRAINT %3$I %s;', k.nspname, k.relname, k.conname,
                            regexp_replace(pg_get_constraintdef(k.constraint), '\(',
                                           '(' || replace(quote_ident(k.tenant_column), '\', '\\') || CASE k.contype WHEN 'x' THEN ' WITH =' ELSE '' END || ', ')) END,
           r.back) AS fix,
       NULL::text AS severity
  FROM crossing k LEFT JOIN reference r ON r.indexrelid = k.indexrelid
