-- id: literal-tenant
-- title: A policy names a tenant by its key
-- severity: error
-- why: Whatever the context says, the rows of that tenant show, or can be written: for every other tenant.
-- fix: Take the branch out; where somebody must see that tenant's rows, give a role of theirs a policy of its own.
-- example: CREATE POLICY p ON public.events USING (tenant_id = tenancy.current_tenant_id() OR tenant_id = '6f9619ff-8b86-d011-b42d-00c04fc964ff');
-- example: SELECT * FROM public.events;  -- as the application, in any tenant: that tenant's rows as well
WITH policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname, p.polcmd::text AS cmd, p.polpermissive, p.polroles, t.tenant_column, x.qual, x.checked
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
     WHERE t.reachable AND t.tenant_column IS NOT NULL
),
-- Each text is read once.
spoken AS MATERIALIZED (
    SELECT row_number() OVER () AS id, x.*
      FROM (SELECT DISTINCT v.text, p.tenant_column
            FROM policy p CROSS JOIN LATERAL (VALUES (p.qual), (p.checked)) AS v(text)
           WHERE v.text ~ '(= (ANY )?\(*(ARRAY\[\(*)?(''|-?\d)|(''(::[a-z ]+)?|\d\)?(::[a-z ]+)?) = )') x
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
named AS MATERIALIZED (
    SELECT b.text, b.tenant_column, string_agg(b.branch, ' OR ' ORDER BY b.position) FILTER (WHERE h.hit) AS branch,
           string_agg(b.branch, ' OR ' ORDER BY b.position) FILTER (WHERE NOT h.hit) AS rest
      FROM branch b
     CROSS JOIN LATERAL (
         SELECT length(b.own) - length(replace(b.own, '§', '')) = 1
                AND (b.own ~ '§\)?(::[a-z ]+)?\)? = (ANY )?\(*(ARRAY\[\(*)?(''|-?\d)'
                     OR b.own ~ '(^|[( ])(''(?:[^'']|'''')*''(::[a-z ]+)?|\(-?\d+\)(::[a-z ]+)?|-?\d+) = \(?§') AS hit) h
     GROUP BY b.text, b.tenant_column
    HAVING bool_or(h.hit)
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I names a tenant by its key', p.polname) AS message,
       concat_ws(' ', 'USING (' || q.branch || ')', 'WITH CHECK (' || k.branch || ')') AS evidence,
       CASE WHEN q.text IS NOT NULL AND q.rest IS NULL OR k.text IS NOT NULL AND k.rest IS NULL
            THEN format('DROP POLICY %I ON %I.%I;', p.polname, n.nspname, c.relname)
            ELSE format('ALTER POLICY %I ON %I.%I %s;', p.polname, n.nspname, c.relname,
                        concat_ws(' ', 'USING (' || q.rest || ')', 'WITH CHECK (' || k.rest || ')')) END AS fix,
       NULL::text AS severity
  FROM policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN named q ON q.text = p.qual AND q.tenant_column = p.tenant_column
  LEFT JOIN named k ON k.text = p.checked AND k.tenant_column = p.tenant_column
 WHERE c.relrowsecurity AND (q.text IS NOT NULL OR k.text IS NOT NULL)
   AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
   -- A restrictive one lets through what a permissive one hands it that asks for no tenant.
   AND (p.polpermissive
        OR coalesce(q.rest, k.rest) IS NOT NULL
           AND EXISTS (SELECT FROM policy f
                        WHERE f.polrelid = p.polrelid AND f.polpermissive
                          AND (0 = ANY (f.polroles) OR f.polroles && $4::oid[])
                          AND strpos(coalesce(f.qual, f.checked), quote_ident(f.tenant_column)) = 0))
   AND NOT EXISTS (SELECT FROM policy f
                    WHERE f.polrelid = p.polrelid AND NOT f.polpermissive AND f.oid <> p.oid
                      AND f.cmd IN ('*', p.cmd, CASE p.cmd WHEN '*' THEN 'r' END)
                      AND (0 = ANY (f.polroles) OR (0 <> ALL (p.polroles) AND p.polroles <@ f.polroles)
                           OR (cardinality($4::oid[]) = 1 AND $6::oid = ANY (f.polroles)))
                      AND strpos(coalesce(f.qual, f.checked), quote_ident(f.tenant_column)) > 0
                      AND coalesce(f.qual, f.checked) !~ '= (ANY )?\(*(ARRAY\[\(*)?(''|-?\d)'
                      AND (strpos(coalesce(f.qual, f.checked), 'true') = 0 OR coalesce(f.qual, f.checked) !~ '\mOR \(*true\M'))
