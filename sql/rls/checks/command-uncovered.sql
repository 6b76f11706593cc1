-- id: command-uncovered
-- title: The restrictive floor does not cover a command that a permissive policy opens
-- severity: error
-- why: A floor holds only for the commands and roles it names; past it the widest permissive policy decides.
-- fix: Make the floor FOR ALL, TO PUBLIC: a member that does not inherit escapes a floor bound to a group.
-- suspicion: probe
-- example: CREATE POLICY wide ON public.events USING (true);
-- example: CREATE POLICY tenant_floor ON public.events AS RESTRICTIVE FOR SELECT USING (tenant_id = tenancy.current_tenant_id());
-- example: DELETE FROM public.events;  -- as the application, in any tenant: takes every tenant's rows, though SELECT hides them
WITH policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname, p.polcmd::text AS cmd, p.polpermissive, p.polroles, x.qual, x.checked, t.tenant_column,
           strpos(x.qual, quote_ident(t.tenant_column)) > 0
               AND (strpos(x.qual, 'true') = 0 OR x.qual !~ '(\mOR \(*true\M|^\(*true\)* OR\M)') AS compares,
           strpos(x.checked, quote_ident(t.tenant_column)) > 0
               AND (strpos(x.checked, 'true') = 0 OR x.checked !~ '(\mOR \(*true\M|^\(*true\)* OR\M)') AS checks
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
     WHERE t.reachable AND t.tenant_column IS NOT NULL
),
floored AS MATERIALIZED (
    SELECT polrelid FROM policy GROUP BY polrelid
    HAVING bool_or(polpermissive AND NOT (coalesce(compares, true) AND coalesce(checks, true))) AND NOT bool_and(polpermissive)
),
-- One row for each expression, with what it decides: reading covers what UPDATE and DELETE can reach.
expression AS MATERIALIZED (
    SELECT p.*, k.command, k.part, k.held
      FROM policy p
      JOIN floored t ON t.polrelid = p.polrelid
     CROSS JOIN LATERAL (VALUES ('r', 'SELECT', 'USING', p.compares), ('a', 'INSERT', 'WITH CHECK', coalesce(p.checks, p.compares)),
                                ('w', 'UPDATE', 'USING', p.compares), ('w', 'UPDATE', 'WITH CHECK', coalesce(p.checks, p.compares)),
                                ('d', 'DELETE', 'USING', p.compares)) AS k(letter, command, part, held)
     WHERE p.cmd IN ('*', k.letter)
),
-- The tables whose floor has a hole for somebody, before any right is looked at.
opened AS MATERIALIZED (
    SELECT e.* FROM expression e
     WHERE e.polpermissive AND NOT e.held
       AND NOT EXISTS (SELECT FROM expression f
                        WHERE f.polrelid = e.polrelid AND f.command = e.command AND f.part = e.part
                          AND NOT f.polpermissive AND f.held AND 0 = ANY (f.polroles))
       AND EXISTS (SELECT FROM expression f WHERE f.polrelid = e.polrelid AND NOT f.polpermissive AND f.held)
),
acting AS (
    SELECT r.oid, r.rolname FROM pg_roles r
     WHERE (r.oid = $6::oid OR r.oid = ANY ($5::oid[])) AND r.oid <> ALL ($10::oid[]) AND NOT r.rolsuper AND NOT r.rolbypassrls
),
uncovered AS (
    SELECT o.polrelid, o.polname, a.oid AS role, a.rolname, o.command, o.part
      FROM opened o
     CROSS JOIN acting a
      JOIN pg_class c ON c.oid = o.polrelid
     WHERE has_schema_privilege(a.oid, c.relnamespace, 'USAGE')
       AND (has_table_privilege(a.oid, c.oid, o.command)
            OR o.command IN ('SELECT', 'INSERT', 'UPDATE') AND has_any_column_privilege(a.oid, c.oid, o.command))
       AND (0 = ANY (o.polroles)
            OR EXISTS (SELECT FROM unnest(o.polroles) AS r(oid) WHERE pg_has_role(a.oid, nullif(r.oid, 0), 'USAGE')))
       AND NOT EXISTS (SELECT FROM expression f
                        WHERE f.polrelid = o.polrelid AND f.command = o.command AND f.part = o.part
                          AND NOT f.polpermissive AND f.held
                          AND EXISTS (SELECT FROM unnest(f.polroles) AS r(oid)
                                       WHERE pg_has_role(a.oid, nullif(r.oid, 0), 'USAGE')))
),
-- The floor that is nearest to holding.
floor AS (
    SELECT DISTINCT ON (e.polrelid) e.polrelid, e.polname, e.polroles, coalesce(e.qual, e.checked) AS text
      FROM expression e
     WHERE NOT e.polpermissive AND e.held AND e.polrelid IN (SELECT polrelid FROM uncovered)
     ORDER BY e.polrelid, 0 = ANY (e.polroles) DESC, e.polname
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       u.polname::text AS detail,
       format('the floor %I does not hold %s for %s, which policy %I opens', f.polname,
              string_agg(DISTINCT u.command, ', '), string_agg(DISTINCT quote_ident(u.rolname), ', '), u.polname) AS message,
       string_agg(DISTINCT format('%s as %I: no restrictive %s', u.command, u.rolname, u.part), '; ') AS evidence,
       format('DROP POLICY %I ON %I.%I; CREATE POLICY %1$I ON %2$I.%3$I AS RESTRICTIVE TO PUBLIC USING (%s) WITH CHECK (%4$s);',
              f.polname, n.nspname, c.relname, f.text) AS fix,
       NULL::text AS severity
  FROM uncovered u
  JOIN floor f ON f.polrelid = u.polrelid
  JOIN pg_class c ON c.oid = u.polrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 GROUP BY c.oid, n.nspname, u.polname, f.polname, f.text
