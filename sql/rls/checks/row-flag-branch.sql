-- id: row-flag-branch
-- title: A property of the row shares it with every tenant
-- severity: error
-- why: What a tenant marks, by mistake or by an old default, is read by all others; so is what an intruder marks.
-- fix: Take the branch out, or keep shared rows in a table of their own; if it is meant, ignore the finding with the reason.
-- example: CREATE POLICY p ON public.events USING (tenant_id = tenancy.current_tenant_id() OR is_public);
-- example: SELECT * FROM public.events;  -- as the application, in any tenant: every tenant's public events
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
           WHERE p.polpermissive AND p.qual IS NOT NULL) x
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
-- What depends on nothing but the row: no tenant, no context, no user, no other table.
plain AS MATERIALIZED (
    SELECT b.*, l.bare,
           strpos(b.own, '§') = 0 AND l.bare !~ '^\(*(true|false)\)*$'
               AND l.bare !~* '(\mselect\M|\mcurrent_(setting|user|role)|\msession_user\M|\mpg_has_role|\muser\M)' AS hit
      FROM branch b
     CROSS JOIN LATERAL (SELECT regexp_replace(b.own, '''(?:[^'']|'''')*''', '''''', 'g') AS bare) l
),
marked AS (
    SELECT p.oid, string_agg(b.branch, ' OR ' ORDER BY b.position) FILTER (WHERE h.hit) AS branch,
           string_agg(b.branch, ' OR ' ORDER BY b.position) FILTER (WHERE NOT h.hit) AS rest
      FROM policy p
      JOIN plain b ON b.text = p.qual AND b.tenant_column = p.tenant_column
     CROSS JOIN LATERAL (
         SELECT b.hit
                AND EXISTS (SELECT FROM pg_depend d
                              JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                             WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid
                               AND strpos(b.bare, quote_ident(a.attname)) > 0)
                -- A function of the platform's own may ask anything.
                AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_proc f ON f.oid = d.refobjid
                                 WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                                   AND d.refclassid = 'pg_proc'::regclass
                                   AND strpos(b.branch, quote_ident(f.proname) || '(') > 0) AS hit) h
     WHERE p.polpermissive
     GROUP BY p.oid
    HAVING bool_or(h.hit)
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I shares rows with every tenant by a property of theirs', p.polname) AS message,
       format('USING (… OR %s)', m.branch) AS evidence,
       CASE WHEN m.rest IS NULL THEN format('DROP POLICY %I ON %I.%I;', p.polname, n.nspname, c.relname)
            ELSE format('ALTER POLICY %I ON %I.%I USING (%s);', p.polname, n.nspname, c.relname, m.rest) END AS fix,
       NULL::text AS severity
  FROM marked m
 CROSS JOIN LATERAL (SELECT q.*, q.polcmd::text AS cmd FROM pg_policy q WHERE q.oid = m.oid) p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
   AND NOT EXISTS (SELECT FROM policy f
                    WHERE f.polrelid = p.polrelid AND NOT f.polpermissive
                      AND f.cmd IN ('*', p.cmd, CASE p.cmd WHEN '*' THEN 'r' END)
                      AND (0 = ANY (f.polroles) OR (0 <> ALL (p.polroles) AND p.polroles <@ f.polroles)
                           OR (cardinality($4::oid[]) = 1 AND $6::oid = ANY (f.polroles)))
                      AND strpos(f.qual, quote_ident(f.tenant_column)) > 0
                      AND (strpos(f.qual, 'true') = 0 OR f.qual !~ '\mOR \(*true\M'))
