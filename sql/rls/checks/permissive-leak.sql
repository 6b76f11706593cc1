-- id: permissive-leak
-- title: A permissive policy lets other tenants' rows through
-- severity: error
-- why: Permissive policies are alternatives: one that does not compare the tenant opens the table, whatever the others say.
-- fix: Drop the policy, or make it compare the tenant column with the tenant in context.
-- suspicion: probe
-- example: CREATE POLICY support ON public.events FOR SELECT USING (true);
-- example: SELECT * FROM public.events;  -- as the application, in any tenant: all rows, whatever the other policies say
WITH tables AS (
    SELECT t.oid, t.tenant_column FROM unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable)
     WHERE t.reachable
),
policy AS (
    SELECT p.polrelid, p.polname, p.polcmd::text AS cmd, p.polpermissive, p.polroles,
           x.qual, t.tenant_column
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN tables t ON t.oid = p.polrelid
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('permissive policy %I %s', p.polname,
              CASE WHEN p.qual = 'true' THEN 'is always true' ELSE 'has a branch that does not compare the tenant' END) AS message,
       format('USING (%s)', p.qual) AS evidence,
       format('DROP POLICY %I ON %I.%I;', p.polname, n.nspname, c.relname) AS fix,
       NULL::text AS severity
  FROM policy p
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relrowsecurity AND p.polpermissive AND p.cmd IN ('*', 'r')
   AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
   -- What is never true lets nothing through.
   AND p.qual <> 'false'
   AND (strpos(p.qual, quote_ident(p.tenant_column)) = 0 OR p.qual ~* '\mOR \(*true\M' OR p.qual ~* '\(true\)* OR\M'
        OR p.qual ~ '\(1 = 1\)')
   AND NOT EXISTS (SELECT FROM policy f
                    WHERE f.polrelid = p.polrelid AND NOT f.polpermissive AND f.cmd IN ('*', 'r')
                      AND (0 = ANY (f.polroles) OR (0 <> ALL (p.polroles) AND p.polroles <@ f.polroles)
                           OR (cardinality($4::oid[]) = 1 AND $6::oid = ANY (f.polroles)))
                      AND strpos(f.qual, quote_ident(f.tenant_column)) > 0 AND f.qual !~* '\mOR \(*true\M')
