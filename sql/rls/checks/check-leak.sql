-- id: check-leak
-- title: A row can be written into another tenant, or moved between tenants
-- severity: error
-- why: WITH CHECK decides what may be written; one that does not compare the tenant lets a tenant plant or steal rows.
-- fix: Let WITH CHECK make the same comparison as USING, and grant no UPDATE on the tenant column.
-- suspicion: probe
-- example: CREATE POLICY writes ON public.events FOR INSERT WITH CHECK (true);
-- example: INSERT INTO public.events (tenant_id, title) VALUES ('…another tenant…', 'planted');  -- as the application: accepted
WITH tables AS (
    SELECT t.oid, t.tenant_column FROM unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable)
     WHERE t.reachable
),
policy AS (
    SELECT p.polrelid, p.polname, p.polcmd::text AS cmd, p.polpermissive, p.polroles,
           x.checked AS written, coalesce(x.checked, x.qual) AS checked, t.tenant_column
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN tables t ON t.oid = p.polrelid
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('WITH CHECK of policy %I does not compare the tenant', p.polname) AS message,
       format('WITH CHECK (%s)', p.written) AS evidence,
       format('ALTER POLICY %I ON %I.%I WITH CHECK (…);', p.polname, n.nspname, c.relname) AS fix,
       NULL::text AS severity
  FROM policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity AND p.polpermissive AND p.cmd IN ('*', 'a', 'w') AND p.written IS NOT NULL
   AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
   -- What is never true lets nothing through.
   AND p.written <> 'false'
   AND (strpos(p.written, quote_ident(p.tenant_column)) = 0 OR p.written ~* '\mOR \(*true\M')
   AND NOT EXISTS (SELECT FROM policy f
                    WHERE f.polrelid = p.polrelid AND NOT f.polpermissive AND (f.cmd = '*' OR f.cmd = p.cmd)
                      AND (0 = ANY (f.polroles) OR (0 <> ALL (p.polroles) AND p.polroles <@ f.polroles)
                           OR (cardinality($4::oid[]) = 1 AND $6::oid = ANY (f.polroles)))
                      AND strpos(f.checked, quote_ident(f.tenant_column)) > 0 AND f.checked !~* '\mOR \(*true\M')
