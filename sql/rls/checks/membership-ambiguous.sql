-- id: membership-ambiguous
-- title: A member of two tenants gets an error, or one of them at random
-- severity: warning
-- why: The policy expects one row where the table allows several: the second membership of a user breaks every query of his, or picks for him.
-- fix: Ask whether the tenant is among the user's, with IN; or let a unique key on the user allow one row.
-- example: CREATE POLICY p ON public.events USING (tenant_id = (SELECT org_id FROM public.members WHERE user_id = auth.uid()));
-- example: SELECT * FROM public.events;  -- as a member of two: more than one row returned by a subquery used as an expression
WITH policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname, t.tenant_column, x.qual, x.checked
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
     WHERE t.reachable AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
-- Each text is read once. One condition and no more: what else there may be is not ours to judge.
asks AS MATERIALIZED (
    SELECT x.text, x.tenant_column, m.found[2] AS relname, m.found[4] AS key,
           regexp_replace(regexp_replace(x.text, p.pattern, ' IN ( SELECT \1 WHERE \3'), '\s+LIMIT (1|\(1\)::bigint)\)', ')') AS mended
      FROM (SELECT qual AS text, tenant_column FROM policy WHERE strpos(qual, 'SELECT') > 0
            UNION SELECT checked, tenant_column FROM policy WHERE strpos(checked, 'SELECT') > 0) x
     CROSS JOIN LATERAL (
         SELECT regexp_replace(quote_ident(x.tenant_column), '([][(){}.*+?^$|\\])', '\\\1', 'g') AS name) q
     CROSS JOIN LATERAL (
         SELECT '(?<=[ (]' || q.name || ') = \( SELECT ((?:[[:alnum:]_$]+\.)?[[:alnum:]_$]+(?: AS [[:alnum:]_$]+)?\s+FROM (?:[[:alnum:]_$]+\.)?'
                || '([[:alnum:]_$]+)(?: [[:alnum:]_$]+)?)\s+WHERE (\((?:[[:alnum:]_$]+\.)?([[:alnum:]_$]+) = )' AS pattern) p
     CROSS JOIN LATERAL regexp_matches(x.text, p.pattern, 'g') AS m(found)
     WHERE x.text !~ '( AND | OR | FETCH | OFFSET )'
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I expects one row of %I for each %I, which no unique key promises', p.polname, m.relname, k.attname) AS message,
       coalesce(q.text, w.text) AS evidence,
       format('ALTER POLICY %I ON %I.%I %s;', p.polname, n.nspname, c.relname,
              concat_ws(' ', 'USING (' || q.mended || ')', 'WITH CHECK (' || w.mended || ')')) AS fix,
       NULL::text AS severity
  FROM policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN asks q ON q.text = p.qual AND q.tenant_column = p.tenant_column
  LEFT JOIN asks w ON w.text = p.checked AND w.tenant_column = p.tenant_column
  JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
                  AND d.refobjsubid > 0 AND d.refobjid <> c.oid
  JOIN pg_class m ON m.oid = d.refobjid AND m.relkind IN ('r', 'p') AND m.relname = coalesce(q.relname, w.relname)
  JOIN pg_attribute k ON k.attrelid = m.oid AND k.attnum = d.refobjsubid AND k.attname = coalesce(q.key, w.key)
 WHERE c.relrowsecurity AND (q.text IS NOT NULL OR w.text IS NOT NULL)
   AND NOT EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = m.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                      AND i.indnkeyatts = 1 AND i.indkey[0] = k.attnum)
