-- id: null-tenant-shared
-- title: Rows without a tenant are everybody's
-- severity: error
-- why: A row that lost its tenant, or was written by a job without one, is shown to every tenant.
-- fix: Take the branch out and set the column NOT NULL; keep what all tenants share in a table of its own.
-- example: CREATE POLICY p ON public.events USING (tenant_id = tenancy.current_tenant_id() OR tenant_id IS NULL);
-- example: SELECT * FROM public.events;  -- as the application, in any tenant: every row that has no tenant
WITH policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname, p.polcmd::text AS cmd, p.polpermissive, p.polroles, t.tenant_column, x.qual
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
     WHERE t.reachable AND t.tenant_column IS NOT NULL
),
-- Each text is read once.
spoken AS MATERIALIZED (
    SELECT row_number() OVER () AS id, x.*
      FROM (SELECT DISTINCT p.qual AS text, p.tenant_column
            FROM policy p
            JOIN pg_attribute a ON a.attrelid = p.polrelid AND a.attname = p.tenant_column AND NOT a.attnotnull
           WHERE p.polpermissive AND p.qual ~ '( IS NULL| IS DISTINCT FROM|COALESCE\()') x
),
-- PostgreSQL puts parentheses around each AND and OR: the branches of a policy stand between the ORs in the outermost.
piece AS (
    SELECT s.id, m.at, m.found[1] AS piece,
           sum(CASE m.found[1] WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END)
               OVER (PARTITION BY s.id ORDER BY m.at) AS depth
      FROM spoken s
     CROSS JOIN LATERAL regexp_matches(s.text, '(''(?:[^'']|'''')*''|"(?:[^"]|"")*"|[()]| OR |[^''"() ]+| +)', 'g')
                WITH ORDINALITY AS m(found, at)
     WHERE s.text LIKE '(% OR %'
),
numbered AS (
    SELECT p.*, p.piece = ' OR ' AND p.depth = 1 AS parts,
           count(*) FILTER (WHERE p.piece = ' OR ' AND p.depth = 1)
               OVER (PARTITION BY p.id ORDER BY p.at) AS position
      FROM piece p
),
-- With the tenant column written as § where it is the table's own.
branch AS MATERIALIZED (
    SELECT s.text, s.tenant_column, b.position, b.branch,
           regexp_replace(b.branch, '(^|[^[:alnum:]_$."])'
               || regexp_replace(quote_ident(s.tenant_column), '([][(){}.*+?^$|\\])', '\\\1', 'g')
               || '(?![[:alnum:]_$"])', '\1§', 'g') AS own
      FROM (SELECT s.id, 0 AS position, s.text AS branch FROM spoken s WHERE s.text NOT LIKE '(% OR %'
            UNION ALL
            SELECT n.id, n.position, string_agg(n.piece, '' ORDER BY n.at)
              FROM numbered n
             WHERE n.at > 1 AND n.depth > 0 AND NOT n.parts
             GROUP BY n.id, n.position) b
      JOIN spoken s ON s.id = b.id
),
shared AS MATERIALIZED (
    SELECT b.text, b.tenant_column, string_agg(b.branch, ' OR ' ORDER BY b.position) FILTER (WHERE h.hit) AS branch,
           string_agg(b.branch, ' OR ' ORDER BY b.position) FILTER (WHERE NOT h.hit) AS rest
      FROM branch b
     CROSS JOIN LATERAL (
         SELECT b.own ~ '(COALESCE\(\(?§\)?(::[a-z ]+)?, [( ]*[^''( \d]|\(NOT \(§ IS DISTINCT FROM )'
                OR b.own ~ '§\)? IS NULL'
                   AND b.own !~* '(\mselect\M|\mcurrent_(setting|tenant|user|role)|\msession_user\M|\mpg_has_role)' AS hit) h
     GROUP BY b.text, b.tenant_column
    HAVING bool_or(h.hit)
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I shows rows whose %I is NULL, and the column allows NULL', p.polname, p.tenant_column) AS message,
       format('USING (%s)', s.branch) AS evidence,
       CASE WHEN s.rest IS NULL
            THEN format('ALTER TABLE %I.%I ALTER COLUMN %I SET NOT NULL;', n.nspname, c.relname, p.tenant_column)
            ELSE format('ALTER POLICY %I ON %I.%I USING (%s);', p.polname, n.nspname, c.relname, s.rest) END AS fix,
       NULL::text AS severity
  FROM policy p
  JOIN shared s ON s.text = p.qual AND s.tenant_column = p.tenant_column
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = p.tenant_column AND NOT a.attnotnull
 WHERE c.relrowsecurity AND p.polpermissive AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
   AND NOT EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.convalidated AND k.conkey = ARRAY[a.attnum]
                      AND pg_get_expr(k.conbin, k.conrelid) = format('(%I IS NOT NULL)', a.attname))
   AND NOT EXISTS (SELECT FROM policy f
                    WHERE f.polrelid = p.polrelid AND NOT f.polpermissive
                      AND f.cmd IN ('*', p.cmd, CASE p.cmd WHEN '*' THEN 'r' END)
                      AND (0 = ANY (f.polroles) OR (0 <> ALL (p.polroles) AND p.polroles <@ f.polroles)
                           OR (cardinality($4::oid[]) = 1 AND $6::oid = ANY (f.polroles)))
                      AND strpos(f.qual, quote_ident(f.tenant_column)) > 0
                      AND f.qual !~ '( IS NULL| IS DISTINCT FROM|COALESCE\()'
                      AND (strpos(f.qual, 'true') = 0 OR f.qual !~ '\mOR \(*true\M'))
