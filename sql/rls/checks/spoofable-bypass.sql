-- id: spoofable-bypass
-- title: A session variable opens the table
-- severity: error
-- why: Any SQL client may set any custom variable: what a setting opens, an injected statement opens.
-- fix: Bind the bypass to a role: a policy TO that role, or membership of it.
-- suspicion: probe
WITH policy AS (
    SELECT p.polrelid, p.polname,
           concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid),
                     (SELECT string_agg(f.prosrc, ' ') FROM pg_depend d JOIN pg_proc f ON f.oid = d.refobjid
                       WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
                         AND f.pronamespace <> 'pg_catalog'::regnamespace)) AS text
      FROM unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) JOIN pg_policy p ON p.polrelid = t.oid
     WHERE t.reachable AND p.polpermissive AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
setting AS (
    SELECT p.polrelid, p.polname, string_agg(DISTINCT m.found[1], ', ' ORDER BY m.found[1]) AS names, min(p.text) AS text
      FROM policy p CROSS JOIN LATERAL regexp_matches(p.text, 'current_setting\(\s*''([^'']+)''', 'gi') AS m(found)
     WHERE lower(m.found[1]) <> lower($8::text)
     GROUP BY p.polrelid, p.polname
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       s.polname::text AS detail,
       format('policy %I depends on %s, which any client can set', s.polname, s.names) AS message,
       s.text AS evidence,
       format('ALTER POLICY %I ON %I.%I USING (…);', s.polname, n.nspname, c.relname) AS fix,
       NULL::text AS severity
  FROM setting s
  JOIN pg_class c ON c.oid = s.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity
