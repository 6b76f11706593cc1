-- id: helper-trusts-caller
-- title: A SECURITY DEFINER function decides for the policy without looking at the row's tenant
-- severity: error
-- why: Past row-level security itself, it says yes for a member of any tenant: one tenant's user reads all others.
-- fix: Hand the function the tenant of the row and let its body ask for that tenant; then this policy compares what is asked.
-- suspicion: probe
-- example: CREATE FUNCTION app.is_member(tenant uuid) RETURNS boolean SECURITY DEFINER LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM members WHERE user_id = auth.uid())';
-- example: SELECT * FROM public.events;  -- as a member of any tenant: all rows, since the body never looks at its argument
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
           WHERE p.polpermissive AND p.qual IS NOT NULL
             AND EXISTS (SELECT FROM pg_depend d JOIN pg_proc f ON f.oid = d.refobjid
                          WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
                            AND f.prosecdef AND f.prorettype = 'boolean'::regtype)) x
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
definer AS MATERIALIZED (
    SELECT DISTINCT p.oid AS policy, f.oid, f.proname, n.nspname, f.proargnames, f.proowner,
           -- Without comments and literals.
           regexp_replace(regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                                         '(''(?:[^'']|'''')*'')|--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/', '\1 ', 'g'),
                          '''(?:[^'']|'''')*''', '''''', 'g') AS body,
           '(?:^|[^[:alnum:]_$"])' || regexp_replace(quote_ident(f.proname), '([][(){}.*+?^$|\\])', '\\\1', 'g')
               || '\(([^()]*)\)' AS pattern
      FROM policy p
      JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
      JOIN pg_proc f ON f.oid = d.refobjid
      JOIN pg_namespace n ON n.oid = f.pronamespace
      JOIN pg_language l ON l.oid = f.prolang
     WHERE f.prosecdef AND f.prorettype = 'boolean'::regtype AND l.lanname NOT IN ('c', 'internal')
       AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
),
found AS (
    SELECT p.oid, f.oid AS function, b.branch, strpos(b.own, '§') > 0 AS handed,
           (SELECT string_agg(r.branch, ' OR ' ORDER BY r.position) FROM branch r
             WHERE r.text = b.text AND r.tenant_column = b.tenant_column AND r.position <> b.position) AS rest
      FROM policy p
      JOIN definer f ON f.policy = p.oid
      JOIN branch b ON b.text = p.qual AND b.tenant_column = p.tenant_column
     CROSS JOIN LATERAL regexp_matches(b.own, f.pattern) AS m(args)
     CROSS JOIN LATERAL string_to_table(m.args[1], ', ') WITH ORDINALITY AS a(given, position)
     WHERE strpos(b.own, '§') > 0 AND a.given = '§'
       AND length(b.own) - length(replace(b.own, '§', '')) = 1
       -- The argument is in the body neither by name nor by number.
       AND f.body !~* ('(\$' || a.position || '\M'
                       || coalesce('|\m' || nullif(regexp_replace(f.proargnames[a.position], '[^[:alnum:]_]', '.', 'g'), '') || '\M', '') || ')')
    UNION ALL
    SELECT p.oid, f.oid, b.branch, false,
           (SELECT string_agg(r.branch, ' OR ' ORDER BY r.position) FROM branch r
             WHERE r.text = b.text AND r.tenant_column = b.tenant_column AND r.position <> b.position)
      FROM policy p
      JOIN definer f ON f.policy = p.oid
      JOIN branch b ON b.text = p.qual AND b.tenant_column = p.tenant_column
     WHERE p.polpermissive AND strpos(b.branch, quote_ident(p.tenant_column)) = 0
       AND strpos(b.branch, quote_ident(f.proname) || '()') > 0
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       format('%s %s', p.polname, f.proname) AS detail,
       format('policy %I lets %I.%I decide, which %s', p.polname, f.nspname, f.proname,
              CASE WHEN x.handed THEN 'never looks at the tenant it is handed' ELSE 'is not told the tenant of the row' END) AS message,
       format('USING (%s)', x.branch) AS evidence,
       CASE WHEN x.rest IS NULL THEN format('DROP POLICY %I ON %I.%I;', p.polname, n.nspname, c.relname)
            ELSE format('ALTER POLICY %I ON %I.%I USING (%s);', p.polname, n.nspname, c.relname, x.rest) END AS fix,
       NULL::text AS severity,
       -- A body that ignores the tenant is wrong whoever was a member when it was tried.
       x.handed AS stands
  FROM found x
 CROSS JOIN LATERAL (SELECT q.*, q.polcmd::text AS cmd FROM pg_policy q WHERE q.oid = x.oid) p
  JOIN definer f ON f.policy = x.oid AND f.oid = x.function
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity AND p.polpermissive AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
   AND NOT EXISTS (SELECT FROM policy l
                    WHERE l.polrelid = p.polrelid AND NOT l.polpermissive
                      AND l.cmd IN ('*', p.cmd, CASE p.cmd WHEN '*' THEN 'r' END)
                      AND (0 = ANY (l.polroles) OR (0 <> ALL (p.polroles) AND p.polroles <@ l.polroles)
                           OR (cardinality($4::oid[]) = 1 AND $6::oid = ANY (l.polroles)))
                      AND strpos(l.qual, quote_ident(l.tenant_column)) > 0
                      AND (strpos(l.qual, 'true') = 0 OR l.qual !~ '\mOR \(*true\M'))
