-- id: floor-constant
-- title: A restrictive policy that is always true restricts nothing
-- severity: warning
-- why: It looks like a floor under the permissive policies and holds nothing: the next careless policy opens the table.
-- fix: Let it compare the tenant column with the tenant in context, or drop it: it does nothing.
-- example: CREATE POLICY tenant_floor ON public.events AS RESTRICTIVE USING (true);
-- example: CREATE POLICY support ON public.events USING (true);  -- nothing holds it: all rows for every tenant
WITH policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname, x.qual, x.checked, coalesce(x.checked, x.qual) AS written, p.polcmd
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) ON t.oid = p.polrelid
     WHERE t.reachable AND NOT p.polpermissive
),
-- Each text is read once. Of columns only those that are never NULL say something about a constant.
constant AS MATERIALIZED (
    SELECT x.text
      FROM (SELECT qual AS text FROM policy UNION SELECT checked FROM policy) x
     WHERE x.text ~* '^\(*(true|not false|(''[^'']*''|\d+)(::[a-z ]+)? = \2(::[a-z ]+)?)\)*$'
        OR x.text ~* '\mOR \(*true\M' OR x.text ~* '^\(*true\)* OR\M'
),
found AS (
    SELECT p.*, q.text IS NOT NULL AS reads
      FROM policy p
      LEFT JOIN LATERAL (
          SELECT p.qual AS text
           WHERE p.qual IN (SELECT text FROM constant)
              OR p.qual LIKE '(% IS NOT NULL)'
                 AND EXISTS (SELECT FROM pg_attribute a
                              WHERE a.attrelid = p.polrelid AND a.attnum > 0 AND a.attnotnull
                                AND p.qual = format('(%I IS NOT NULL)', a.attname))) q ON true
      LEFT JOIN LATERAL (SELECT p.checked AS text WHERE p.checked IN (SELECT text FROM constant)) c ON true
     -- One that looks at what is written alone holds that.
     WHERE (q.text IS NOT NULL AND p.checked IS NULL) OR c.text IS NOT NULL
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       f.polname::text AS detail,
       format('restrictive policy %I is always true%s', f.polname,
              CASE WHEN f.reads THEN '' ELSE ' for what is written' END) AS message,
       CASE WHEN f.reads THEN format('USING (%s)', f.qual) ELSE format('WITH CHECK (%s)', f.checked) END AS evidence,
       CASE WHEN f.reads OR f.qual IS NULL THEN format('DROP POLICY %I ON %I.%I;', f.polname, n.nspname, c.relname)
            ELSE format('ALTER POLICY %I ON %I.%I WITH CHECK (%s);', f.polname, n.nspname, c.relname, f.qual) END AS fix,
       NULL::text AS severity
  FROM found f
  JOIN pg_class c ON c.oid = f.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity
   AND (f.reads OR f.polcmd IN ('*', 'a', 'w'))
