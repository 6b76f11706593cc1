-- id: spoofable-bypass
-- title: A session variable opens the table
-- severity: error
-- why: Any SQL client may set any custom variable: what a setting opens, an injected statement opens.
-- fix: Bind the bypass to a role: a policy TO that role, or membership of it.
-- suspicion: probe
-- example: CREATE POLICY admins ON public.events USING (current_setting('app.is_admin', true) = 'on');
-- example: SET app.is_admin = 'on'; SELECT * FROM public.events;  -- as the application: all rows
WITH policy AS MATERIALIZED (
    SELECT p.polrelid, p.polname, p.polroles, t.tenant_column,
           concat_ws(' ', x.qual, x.checked) AS expression, x.whole AS text
      FROM (SELECT o.oid, s.qual, s.checked, s.whole FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
     WHERE t.reachable AND p.polpermissive AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
-- Most policies say the same: each text is read once.
setting AS MATERIALIZED (
    SELECT x.text, string_agg(DISTINCT coalesce(m.found[1], 'a setting whose name is put together'), ', ') AS names
      FROM (SELECT DISTINCT text FROM policy) x
     CROSS JOIN LATERAL regexp_matches(x.text, 'current_setting\(\s*(?:''+([^'']+)''|[^''\s])', 'gi') AS m(found)
     WHERE m.found[1] IS NULL OR lower(m.found[1]) <> ALL (SELECT lower(s.name) FROM unnest($8::text[]) AS s(name))
     GROUP BY x.text
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I depends on %s, which any client can set', p.polname, s.names) AS message,
       p.text AS evidence,
       format('ALTER POLICY %I ON %I.%I USING (…);', p.polname, n.nspname, c.relname) AS fix,
       NULL::text AS severity,
       -- Beside the tenant, or as a policy of its own (permissive policies are alternatives), with no floor under it,
       -- guesses that fail prove nothing.
       (p.text ~* '\mor\M' OR strpos(p.expression, quote_ident(p.tenant_column)) = 0)
           AND NOT EXISTS (SELECT FROM pg_policy f
                            WHERE f.polrelid = p.polrelid AND NOT f.polpermissive AND f.polcmd = '*'
                              AND (0 = ANY (f.polroles) OR (0 <> ALL (p.polroles) AND p.polroles <@ f.polroles))
                              AND strpos(pg_get_expr(f.polqual, f.polrelid), quote_ident(p.tenant_column)) > 0
                              AND pg_get_expr(f.polqual, f.polrelid) !~* '\mOR \(*true\M') AS stands
  FROM setting s
  JOIN policy p ON p.text = s.text
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity
