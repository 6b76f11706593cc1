-- id: policy-to-public
-- title: A permissive policy is for everybody, and others hold rights on the table
-- severity: warning
-- why: Permissive policies add up: roles that were given less, by policies of their own, get what this one permits as well.
-- fix: Name the role that the policy is for.
-- example: CREATE POLICY p ON public.events USING (tenant_id = tenancy.current_tenant_id());  -- without TO
-- example: CREATE POLICY dated ON public.events FOR SELECT TO reporting USING (starts_on < now() - interval '1 year');
-- example: SELECT * FROM public.events;  -- as reporting, with a tenant set: all of that tenant's rows, dated or not
WITH policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname, p.polcmd::text AS cmd, p.polpermissive, p.polroles, t.tenant_column,
           coalesce(x.qual, x.checked) AS text
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
     WHERE t.reachable
),
-- The tables with a policy for everybody, and who else was given rights on them.
other AS MATERIALIZED (
    SELECT DISTINCT c.oid AS relation, r.oid, r.rolname
      FROM (SELECT DISTINCT polrelid FROM policy WHERE polpermissive AND 0 = ANY (polroles)) p
      JOIN pg_class c ON c.oid = p.polrelid AND c.relrowsecurity
     CROSS JOIN LATERAL aclexplode(c.relacl) AS g
      JOIN pg_roles r ON r.oid = g.grantee
     WHERE g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND r.oid <> c.relowner
       AND r.oid <> ALL ($4::oid[]) AND r.oid <> ALL ($10::oid[]) AND r.oid IS DISTINCT FROM $9::oid
       AND NOT r.rolsuper AND NOT r.rolbypassrls
),
found AS (
    SELECT p.oid, string_agg(quote_ident(o.rolname), ', ' ORDER BY o.rolname) AS names
      FROM policy p
      JOIN other o ON o.relation = p.polrelid
     WHERE p.polpermissive AND 0 = ANY (p.polroles)
       -- Somebody thought about what that role may see,
       AND (EXISTS (SELECT FROM policy q
                     WHERE q.polrelid = p.polrelid AND q.polpermissive AND o.oid = ANY (q.polroles)
                       AND (q.cmd IN ('*', p.cmd) OR p.cmd = '*') AND q.text IS DISTINCT FROM p.text)
            -- or nothing about it was thought of: no tenant, and no floor under this role.
            OR strpos(p.text, quote_ident(p.tenant_column)) = 0
               AND NOT EXISTS (SELECT FROM policy f
                                WHERE f.polrelid = p.polrelid AND NOT f.polpermissive AND f.cmd IN ('*', p.cmd)
                                  AND (0 = ANY (f.polroles) OR o.oid = ANY (f.polroles))))
     GROUP BY p.oid
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       p.polname::text AS detail,
       format('policy %I is for PUBLIC, and so for %s', p.polname, x.names) AS message,
       format('USING (%s)', p.text) AS evidence,
       format('ALTER POLICY %I ON %I.%I TO %s;', p.polname, n.nspname, c.relname, $6::regrole::text) AS fix,
       NULL::text AS severity
  FROM found x
  JOIN LATERAL (SELECT q.polrelid, q.polname, coalesce(pg_get_expr(q.polqual, q.polrelid), pg_get_expr(q.polwithcheck, q.polrelid)) AS text
                  FROM pg_policy q WHERE q.oid = x.oid) p ON true
  JOIN pg_class c ON c.oid = p.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
