-- id: spoofable-bypass
-- title: A session variable opens the table
-- severity: error
-- why: Any SQL client may set any custom variable: what a setting opens, an injected statement opens.
-- fix: Bind the bypass to a role: a policy TO that role, or membership of it.
-- suspicion: probe
-- example: CREATE POLICY admins ON public.events USING (current_setting('app.is_admin', true) = 'on');
-- example: SET app.is_admin = 'on'; SELECT * FROM public.events;  -- as the application: all rows
WITH RECURSIVE policy AS (
    SELECT p.oid, p.polrelid, p.polname, p.polroles, t.tenant_column,
           concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) AS expression
      FROM unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) JOIN pg_policy p ON p.polrelid = t.oid
     WHERE t.reachable AND p.polpermissive AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
body AS (
    SELECT f.oid, f.proname, coalesce(pg_get_function_sqlbody(f.oid), f.prosrc) AS text
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_' AND l.lanname NOT IN ('c', 'internal')
),
-- The functions that it calls, and those that they name.
calls(policy, oid) AS (
    SELECT p.oid, d.refobjid FROM policy p JOIN pg_depend d
        ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
    UNION
    SELECT c.policy, g.oid
      FROM calls c JOIN body f ON f.oid = c.oid
     CROSS JOIN LATERAL regexp_matches(f.text, '([[:alnum:]_$]+)"?\s*\(', 'g') AS m(found)
      JOIN body g ON g.proname = m.found[1] OR g.proname = lower(m.found[1])
),
whole AS (
    SELECT p.*, concat_ws(' ', p.expression, (SELECT string_agg(DISTINCT b.text, ' ') FROM calls c JOIN body b ON b.oid = c.oid
                                               WHERE c.policy = p.oid)) AS text
      FROM policy p
),
setting AS (
    SELECT p.oid, string_agg(DISTINCT coalesce(m.found[1], 'a setting whose name is put together'), ', ') AS names
      FROM whole p CROSS JOIN LATERAL regexp_matches(p.text, 'current_setting\(\s*(?:''+([^'']+)''|[^''\s])', 'gi') AS m(found)
     WHERE m.found[1] IS NULL OR lower(m.found[1]) <> ALL (SELECT lower(s.name) FROM unnest($11::text[]) AS s(name))
     GROUP BY p.oid
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
  JOIN whole p ON p.oid = s.oid
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity
