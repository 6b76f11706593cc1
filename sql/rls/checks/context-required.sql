-- id: context-required
-- title: A policy raises an error on a session that never had a context
-- severity: note
-- why: current_setting without its second argument fails where the setting is unknown: a fresh connection gets an error, not an empty answer.
-- fix: Ask for it with current_setting('…', true): NULL without a context, and NULL matches nothing.
-- example: CREATE POLICY p ON public.events USING (tenant_id = current_setting('app.current_tenant_id')::uuid);
-- example: SELECT * FROM public.events;  -- on a fresh connection: unrecognized configuration parameter "app.current_tenant_id"
WITH policy AS MATERIALIZED (
    SELECT p.polrelid, p.polname, x.qual, x.checked, x.whole
      FROM (SELECT o.oid, s.qual, s.checked, s.whole FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) ON t.oid = p.polrelid
      JOIN pg_class c ON c.oid = p.polrelid
     WHERE t.reachable AND c.relrowsecurity AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
-- Each text is read once.
asks AS MATERIALIZED (
    SELECT x.text, regexp_replace(x.text, w.pattern, 'NULLIF(current_setting(\1, true), '''')', 'g') AS mended
      FROM (SELECT qual AS text FROM policy UNION SELECT checked FROM policy OFFSET 0) x
     CROSS JOIN (VALUES ('\mcurrent_setting\(\s*(''[^'']+\.[^'']+''(?:::text)?)\s*\)')) AS w(pattern)
     WHERE x.text ~ w.pattern
),
helper AS MATERIALIZED (
    SELECT f.oid
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE l.lanname NOT IN ('c', 'internal') AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND f.prokind = 'f'
       AND CASE WHEN strpos(lower(f.prosrc), 'current_setting') > 0
                THEN f.prosrc ~* '\mcurrent_setting\(\s*''[^'']+\.[^'']+''(?:::text)?\s*\)' END
       AND EXISTS (SELECT FROM (SELECT DISTINCT whole FROM policy) w WHERE strpos(w.whole, f.prosrc) > 0)
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind, '' AS detail,
       format('without a context %s raises an error', string_agg(format('policy %I', p.polname), ', ' ORDER BY p.polname)) AS message,
       min(coalesce(q.text, k.text)) AS evidence,
       string_agg(format('ALTER POLICY %I ON %I.%I %s;', p.polname, n.nspname, c.relname,
                         concat_ws(' ', 'USING (' || q.mended || ')', 'WITH CHECK (' || k.mended || ')')), ' ' ORDER BY p.polname) AS fix,
       NULL::text AS severity
  FROM policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN asks q ON q.text = p.qual
  LEFT JOIN asks k ON k.text = p.checked
 WHERE q.text IS NOT NULL OR k.text IS NOT NULL
 GROUP BY c.oid, n.nspname
UNION ALL
SELECT NULL, format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)), 'function', '',
       'a policy asks it, and without a context it raises an error', f.prosrc,
       regexp_replace(pg_get_functiondef(f.oid), '\mcurrent_setting\(\s*(''[^'']+\.[^'']+''(?:::text)?)\s*\)',
                      'NULLIF(current_setting(\1, true), '''')', 'gi') || ';', NULL
  FROM helper h
  JOIN pg_proc f ON f.oid = h.oid
  JOIN pg_namespace n ON n.oid = f.pronamespace
