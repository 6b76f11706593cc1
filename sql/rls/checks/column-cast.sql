-- id: column-cast
-- title: A cast on the tenant column keeps the index out
-- severity: warning
-- why: The index is on the column, not on what the cast makes of it: each query of one tenant reads the rows of all.
-- fix: Cast the context, not the column; or index the expression.
-- example: CREATE POLICY p ON public.events USING (tenant_id::text = current_setting('app.current_tenant_id', true));
-- example: EXPLAIN SELECT * FROM public.events;  -- Seq Scan with Filter: ((tenant_id)::text = current_setting(…))
WITH RECURSIVE policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname, p.polcmd::text AS cmd, p.polpermissive, p.polroles, t.tenant_column, x.qual
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
     WHERE t.reachable AND x.qual IS NOT NULL
),
-- Each text is read once. A column of another table has that table's name before it.
cast_to AS MATERIALIZED (
    SELECT d.qual, d.tenant_column, min(trim(m.found[2])) AS type
      FROM (SELECT DISTINCT qual, tenant_column FROM policy
             WHERE polpermissive AND strpos(qual, format('(%I)::', tenant_column)) > 0) d
     CROSS JOIN LATERAL (SELECT regexp_replace(quote_ident(d.tenant_column), '([][(){}.*+?^$|\\])', '\\\1', 'g') AS name) q
     CROSS JOIN LATERAL regexp_matches(d.qual, '(^|[^[:alnum:]_$."])\(' || q.name || '\)::([a-z][a-z0-9_ ]*)', 'g') AS m(found)
     WHERE d.qual !~ ('(^|[^[:alnum:]_$."])' || q.name || ' = ')
     GROUP BY d.qual, d.tenant_column
),
-- Mostly there are none, and then nothing else is looked at.
casting AS MATERIALIZED (
    SELECT p.polrelid, p.polname, p.polroles, p.tenant_column, p.qual, k.type
      FROM cast_to k JOIN policy p ON p.qual = k.qual AND p.tenant_column = k.tenant_column
     WHERE p.polpermissive AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
-- Floors with the plain comparison, which the index serves.
plain_floor AS MATERIALIZED (
    SELECT f.polrelid, f.polroles FROM policy f
     WHERE NOT f.polpermissive AND f.cmd IN ('*', 'r')
       AND strpos(f.qual, quote_ident(f.tenant_column) || ' = ') > 0 AND strpos(f.qual, ' OR ') = 0
       AND f.polrelid IN (SELECT k.polrelid FROM casting k)
),
-- A type, and what it is a domain over.
base(type, oid) AS (
    SELECT a.atttypid, a.atttypid FROM casting k
      JOIN pg_attribute a ON a.attrelid = k.polrelid AND a.attname = k.tenant_column
    UNION
    SELECT b.type, y.typbasetype FROM base b JOIN pg_type y ON y.oid = b.oid AND y.typtype = 'd'
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I casts %I from %s to %s', p.polname, p.tenant_column, format_type(a.atttypid, NULL), p.type) AS message,
       format('USING (%s)', p.qual) AS evidence,
       format('CREATE INDEX ON %I.%I ((%I::%s));', n.nspname, c.relname, p.tenant_column, p.type) AS fix,
       NULL::text AS severity
  FROM casting p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = p.tenant_column AND NOT a.attisdropped
 WHERE c.relrowsecurity
   -- No change to PostgreSQL, whose index serves: varchar to text, a domain to what it is made of, and the like.
   AND to_regtype(p.type) IS DISTINCT FROM a.atttypid::regtype
   AND NOT EXISTS (SELECT FROM base b
                    WHERE b.type = a.atttypid
                      AND (b.oid = to_regtype(p.type)
                           OR EXISTS (SELECT FROM pg_cast s
                                       WHERE s.castsource = b.oid AND s.casttarget = to_regtype(p.type) AND s.castmethod = 'b')))
   AND NOT EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indkey[0] = 0
                      AND strpos(pg_get_expr(i.indexprs, i.indrelid), format('(%I)::%s', p.tenant_column, p.type)) > 0)
   AND NOT EXISTS (SELECT FROM plain_floor f
                    WHERE f.polrelid = p.polrelid AND (0 = ANY (f.polroles) OR f.polroles @> p.polroles))
