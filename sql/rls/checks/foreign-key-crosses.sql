-- id: foreign-key-crosses
-- title: A reference between tenant tables does not carry the tenant
-- severity: error
-- why: PostgreSQL checks references below the policies: a row can point at another tenant's, the error tells whether that one exists, and a cascade reaches across.
-- fix: Refer to the tenant and the key together, with a unique key over both on the other side.
-- example: CREATE TABLE public.tickets (tenant_id uuid NOT NULL, event_id bigint REFERENCES public.events (id));
-- example: INSERT INTO public.tickets VALUES (tenancy.current_tenant_id(), 4711);  -- as the application: accepted if any tenant has event 4711
WITH tenant AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relkind, a.attnum, a.attname
      FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant_column)
      JOIN pg_class c ON c.oid = t.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN LATERAL (SELECT a.* FROM pg_attribute a
                           WHERE a.attrelid = t.oid AND a.attname = t.tenant_column AND NOT a.attisdropped OFFSET 0) a
),
-- Those that no pair of tenant columns holds together.
crossing AS MATERIALIZED (
    SELECT k.*, t.nspname, t.relname, t.relkind, t.attname AS tenant_column,
           p.nspname AS parent_schema, p.relname AS parent_name, p.attname AS parent_column, p.attnum AS parent_attnum
      FROM pg_constraint k
      JOIN tenant t ON t.oid = k.conrelid
      JOIN tenant p ON p.oid = k.confrelid
     WHERE k.contype = 'f' AND k.conparentid = 0
       AND NOT EXISTS (SELECT FROM unnest(k.conkey, k.confkey) AS x(own, other) WHERE x.own = t.attnum AND x.other = p.attnum)
),
writable AS (
    SELECT DISTINCT k.oid
      FROM crossing k JOIN pg_class c ON c.oid = k.conrelid CROSS JOIN unnest($4::oid[]) AS role(oid)
     WHERE has_schema_privilege(role.oid, c.relnamespace, 'USAGE')
       AND (has_table_privilege(role.oid, c.oid, 'INSERT, UPDATE') OR has_any_column_privilege(role.oid, c.oid, 'INSERT, UPDATE'))
),
named AS (
    SELECT k.*,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.position)
              FROM unnest(k.conkey) WITH ORDINALITY AS x(attnum, position)
              JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.attnum) AS own_columns,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY x.position)
              FROM unnest(k.confkey) WITH ORDINALITY AS x(attnum, position)
              JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = x.attnum) AS other_columns,
           EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = k.confrelid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
                      AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(k.confkey) + 1
                      AND (i.indkey::int2[])[0:i.indnkeyatts - 1] @> (k.parent_attnum || k.confkey)) AS has_key
      FROM crossing k JOIN writable w ON w.oid = k.oid
),
-- A policy or trigger of the table that looks at the other one, as the writer, may keep the reference in the tenant.
policy AS MATERIALIZED (
    SELECT p.polrelid, x.whole
      FROM (SELECT o.oid, s.qual, s.checked, s.whole FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
     WHERE p.polrelid IN (SELECT conrelid FROM named) AND p.polcmd IN ('*', 'a', 'w')
),
guarded AS (
    SELECT DISTINCT k.oid
      FROM named k JOIN policy p ON p.polrelid = k.conrelid
     WHERE position(k.parent_name IN p.whole) > 0
    UNION
    SELECT k.oid
      FROM named k JOIN pg_trigger g ON g.tgrelid = k.conrelid AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A')
      JOIN pg_proc f ON f.oid = g.tgfoid
     WHERE position(k.parent_name IN f.prosrc) > 0
)
SELECT k.conrelid AS relation, format('%I.%I', k.nspname, k.relname) AS object,
       CASE k.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       k.conname::text AS detail,
       CASE WHEN g.oid IS NULL
            THEN format('a row can refer to another tenant''s row of %I.%I: (%s) does not carry the tenant', k.parent_schema, k.parent_name, k.own_columns)
            ELSE format('that (%s) refers to the same tenant''s row of %I.%I is left to a policy or trigger', k.own_columns, k.parent_schema, k.parent_name)
       END AS message,
       format('%I %s', k.conname, pg_get_constraintdef(k.oid)) AS evidence,
       concat_ws(' ',
           CASE WHEN NOT k.has_key THEN format('ALTER TABLE %I.%I ADD UNIQUE (%I, %s);', k.parent_schema, k.parent_name, k.parent_column, k.other_columns) END,
           format('ALTER TABLE %I.%I DROP CONSTRAINT %I, ADD CONSTRAINT %3$I FOREIGN KEY (%4$I, %5$s) REFERENCES %6$I.%7$I (%8$I, %9$s)%10$s%11$s%12$s;',
                  k.nspname, k.relname, k.conname, k.tenant_column, k.own_columns, k.parent_schema, k.parent_name, k.parent_column, k.other_columns,
                  CASE k.confupdtype WHEN 'c' THEN ' ON UPDATE CASCADE' WHEN 'r' THEN ' ON UPDATE RESTRICT'
                                     -- The tenant column must not go with the key, and an update knows no list of columns.
                                     ELSE '' END,
                  CASE k.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT'
                                     WHEN 'n' THEN format(' ON DELETE SET NULL (%s)', k.own_columns)
                                     WHEN 'd' THEN format(' ON DELETE SET DEFAULT (%s)', k.own_columns) ELSE '' END,
                  CASE WHEN k.condeferrable THEN CASE WHEN k.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' ELSE ' DEFERRABLE' END ELSE '' END)) AS fix,
       CASE WHEN g.oid IS NOT NULL THEN 'note' END AS severity
  FROM named k LEFT JOIN guarded g ON g.oid = k.oid
