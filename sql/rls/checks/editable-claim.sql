-- id: editable-claim
-- title: The policy trusts a claim that users edit themselves
-- severity: error
-- why: Users write their own user_metadata: whoever puts another tenant there belongs to it with the next token.
-- fix: Read the tenant from app_metadata, which only the server writes, or from a table of memberships.
-- example: CREATE POLICY p ON public.events USING (tenant_id = (auth.jwt() -> 'user_metadata' ->> 'tenant_id')::uuid);
-- example: supabase.auth.updateUser({ data: { tenant_id: '…another tenant…' } })  -- as any user, then log in again
WITH policy AS MATERIALIZED (
    SELECT p.polrelid, p.polname, p.polcmd::text AS cmd, p.polpermissive, p.polroles, t.tenant_column, x.qual, x.checked, x.whole
      FROM (SELECT o.oid, s.qual, s.checked, s.whole FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
     WHERE t.reachable
),
-- Each text is read once; comments do not count.
edited AS MATERIALIZED (
    SELECT x.whole,
           (SELECT string_agg(replace(replace(pg_get_functiondef(f.oid), 'raw_user_meta_data', 'raw_app_meta_data'),
                                      'user_metadata', 'app_metadata') || ';', E'\n' ORDER BY f.oid)
              FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
             WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenancy') AND f.prokind = 'f'
               AND f.prosrc <> '' AND f.prosrc ~ '(user_metadata|raw_user_meta_data)' AND strpos(x.whole, f.prosrc) > 0) AS functions
      FROM (SELECT DISTINCT whole FROM policy WHERE strpos(whole, 'user_meta') > 0) x
     WHERE regexp_replace(x.whole, '(--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/)', '', 'g') ~ '(\muser_metadata\M|\mraw_user_meta_data\M)'
),
changed AS (
    SELECT p.*, e.functions, w.qual AS new_qual, w.checked AS new_checked
      FROM policy p
      JOIN edited e ON e.whole = p.whole
     CROSS JOIN LATERAL (
         SELECT replace(replace(p.qual, 'raw_user_meta_data', 'raw_app_meta_data'), 'user_metadata', 'app_metadata') AS qual,
                replace(replace(p.checked, 'raw_user_meta_data', 'raw_app_meta_data'), 'user_metadata', 'app_metadata') AS checked) w
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I decides by user_metadata, which every user edits', p.polname) AS message,
       p.whole AS evidence,
       CASE WHEN p.qual IS DISTINCT FROM p.new_qual OR p.checked IS DISTINCT FROM p.new_checked
            THEN format('ALTER POLICY %I ON %I.%I %s;', p.polname, n.nspname, c.relname,
                        concat_ws(' ', 'USING (' || p.new_qual || ')', 'WITH CHECK (' || p.new_checked || ')'))
            ELSE p.functions END AS fix,
       NULL::text AS severity
  FROM changed p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity AND p.polpermissive AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
   AND NOT EXISTS (SELECT FROM policy f
                    WHERE f.polrelid = p.polrelid AND NOT f.polpermissive
                      AND f.cmd IN ('*', p.cmd, CASE p.cmd WHEN '*' THEN 'r' END)
                      AND (0 = ANY (f.polroles) OR (0 <> ALL (p.polroles) AND p.polroles <@ f.polroles)
                           OR (cardinality($4::oid[]) = 1 AND $6::oid = ANY (f.polroles)))
                      AND strpos(coalesce(f.qual, f.checked), quote_ident(f.tenant_column)) > 0
                      AND strpos(f.whole, 'user_meta') = 0
                      AND (strpos(coalesce(f.qual, f.checked), 'true') = 0 OR coalesce(f.qual, f.checked) !~ '\mOR \(*true\M'))
