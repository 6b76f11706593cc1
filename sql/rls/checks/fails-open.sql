-- id: fails-open
-- title: Without a tenant in context the policy shows rows
-- severity: error
-- why: A request that forgot its tenant, or a pooled connection whose context is over, sees everybody's rows.
-- fix: Compare the tenant column with the setting alone: NULL matches nothing.
-- suspicion: probe
-- example: CREATE POLICY p ON public.events USING (tenant_id = coalesce(tenancy.current_tenant_id(), tenant_id));
-- example: SELECT * FROM public.events;  -- as the application, no tenant set: all rows
WITH policy AS (
    SELECT p.polrelid, p.polname, x.whole AS text
      FROM (SELECT o.oid, s.qual, s.checked, s.whole FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) ON t.oid = p.polrelid
     WHERE t.reachable AND p.polpermissive AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
-- Most policies say the same: each text is read once.
distinct_text AS MATERIALIZED (
    SELECT DISTINCT text,
           -- Of two settings the one that is there, and nothing after them: no answer where neither is.
           regexp_replace(text, 'coalesce\(\s*(nullif\(\s*[a-z_.]*current_setting\([^()]*\),\s*''''[^,()]*\)[^,;]{0,40},'
                                || '\s*\(*\s*nullif\(\s*[a-z_.]*current_setting\([^()]*\),\s*''''[^,()]*\))(?![^,;]{0,60},)',
                          '(\1', 'gi') AS plain
      FROM policy
),
open AS (
    SELECT x.text
      FROM distinct_text x
     WHERE x.plain ~* 'coalesce\([^;]{0,60}(current_setting|current_tenant)'
        OR x.text ~* '(current_setting|current_tenant)[^;]{0,60}\mis null\M'
        OR x.text ~* '(current_setting|current_tenant)[a-z_]*\([^)]*\)\)*\s*=\s*'''''
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I has an answer for a missing context', p.polname) AS message,
       p.text AS evidence,
       format('ALTER POLICY %I ON %I.%I USING (…);', p.polname, n.nspname, c.relname) AS fix,
       NULL::text AS severity
  FROM policy p
  JOIN open o ON o.text = p.text
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity
