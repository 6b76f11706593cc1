-- id: self-granted
-- title: The application role can write the table that a policy asks who belongs to the tenant
-- severity: error
-- why: Whoever may add a row there, or change the tenant in one, makes himself a member of any tenant.
-- fix: Revoke the rights, or let a policy of that table compare the tenant in what is written.
-- suspicion: probe
-- example: GRANT INSERT ON public.members TO tenancy_app;  -- policies say tenant_id IN (SELECT org_id FROM members WHERE user_id = auth.uid())
-- example: INSERT INTO public.members (org_id, user_id) VALUES ('…another tenant…', auth.uid());  -- as the application; then SELECT * FROM public.events
WITH RECURSIVE
-- The platform's own functions in the policies that bind the role.
direct AS MATERIALIZED (
    SELECT DISTINCT d.refobjid AS function, p.oid AS policy
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) ON t.oid = p.polrelid
      JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
     WHERE t.reachable AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
       AND d.refobjid NOT IN (SELECT f.oid FROM pg_proc f WHERE f.pronamespace = to_regnamespace('tenancy'))
),
body AS MATERIALIZED (
    SELECT f.oid, f.proname, f.pronamespace, f.proowner, f.provolatile, f.proconfig, f.pronargs, f.prosqlbody IS NOT NULL AS parsed,
           -- Without comments and literals.
           regexp_replace(regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                                         '(''(?:[^'']|'''')*'')|--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/', '\1 ', 'g'),
                          '''(?:[^'']|'''')*''', '''''', 'g') AS text
      FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
     WHERE l.lanname NOT IN ('c', 'internal') AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend e
                        WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid AND e.deptype = 'e')
),
calls AS MATERIALIZED (
    SELECT DISTINCT f.oid AS caller, g.oid AS called, m.found[1] IS NULL AS unqualified
      FROM body f
     CROSS JOIN LATERAL regexp_matches(f.text, '(\.\s*)?(?:"([^"]+)"|([[:alpha:]_][[:alnum:]_$]*))\s*\(', 'g') AS m(found)
      JOIN body g ON g.proname = coalesce(m.found[2], lower(m.found[3])) AND g.oid <> f.oid
     WHERE m.found[1] IS NOT NULL
        OR NOT EXISTS (SELECT FROM pg_proc b
                        WHERE b.proname = g.proname AND b.pronamespace = 'pg_catalog'::regnamespace)
),
-- And those that they call, any number of steps away.
helper(oid) AS (
    SELECT function FROM direct
    UNION
    SELECT c.called FROM helper h JOIN calls c ON c.caller = h.oid
),
policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname, t.tenant_column, x.qual, x.checked, concat_ws(' ', x.qual, x.checked) AS text
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable) ON t.oid = p.polrelid
      JOIN pg_class c ON c.oid = p.polrelid
     WHERE t.reachable AND t.tenant_column IS NOT NULL AND c.relrowsecurity AND p.polpermissive
       AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
-- What each function reads, those included that it calls.
walk(root, at) AS (
    SELECT function, function FROM direct
    UNION
    SELECT w.root, c.called FROM walk w JOIN calls c ON c.caller = w.at
),
through AS MATERIALIZED (
    SELECT DISTINCT w.root, c.oid AS relation
      FROM walk w
      JOIN body f ON f.oid = w.at
     CROSS JOIN LATERAL regexp_matches(f.text, '\m(?:from|join)\s+(?:only\s+)?(?:(?:"[^"]+"|[[:alnum:]_$]+)\s*\.\s*)?(?:"([^"]+)"|([[:alpha:]_][[:alnum:]_$]*)\M)(?!\s*[.(])', 'gi') AS m(found)
      JOIN pg_class c ON c.relname = coalesce(m.found[1], lower(m.found[2])) AND c.relkind IN ('r', 'p')
      JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
),
asked AS (
    SELECT p.oid AS policy, c.oid AS relation,
           (regexp_match(p.text, ' SELECT (?:[[:alnum:]_$]+\.)?([a-z_][a-z0-9_$]*)(?: AS [[:alnum:]_$]+)?\s+FROM (?:[[:alnum:]_$"]+\.)?'
                                 || regexp_replace(quote_ident(c.relname), '([][(){}.*+?^$|\\])', '\\\1', 'g') || '\M'))[1] AS selected
      FROM policy p
      JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid <> p.polrelid
      JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p')
     -- Where the tenant is compared with the context beside it, the other table only narrows.
     WHERE strpos(p.text, ' OR ') > 0
        OR p.text !~ (regexp_replace(quote_ident(p.tenant_column), '([][(){}.*+?^$|\\])', '\\\1', 'g')
                      || '\)? = \(*( ?SELECT )?\(*(NULLIF\(|current_setting\(|tenancy\.current_tenant|[a-z_.]+\(\))')
    UNION
    SELECT d.policy, h.relation, NULL
      FROM direct d JOIN through h ON h.root = d.function JOIN policy p ON p.oid = d.policy
     WHERE h.relation <> p.polrelid
),
-- The column of that table that says the tenant, where it can be told.
source AS MATERIALIZED (
    SELECT a.relation, coalesce(min(t.tenant_column), min(a.selected)) AS deciding, bool_or(t.oid IS NOT NULL) AS attacked,
           string_agg(DISTINCT format('%I on %I.%I', p.polname, n.nspname, c.relname), ', ') AS policies
      FROM asked a
      JOIN pg_policy p ON p.oid = a.policy
      JOIN pg_class c ON c.oid = p.polrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN unnest($1::oid[], $2::text[]) AS t(oid, tenant_column) ON t.oid = a.relation
     GROUP BY a.relation
),
acting AS (
    SELECT r.oid, r.rolname FROM pg_roles r
     WHERE (r.oid = $6::oid OR r.oid = ANY ($5::oid[])) AND r.oid <> ALL ($10::oid[]) AND NOT r.rolsuper AND NOT r.rolbypassrls
),
way AS (
    SELECT s.relation, a.oid AS role, k.command, k.letter
      FROM source s
      JOIN pg_class c ON c.oid = s.relation
     CROSS JOIN acting a
     CROSS JOIN (VALUES ('INSERT', 'a'), ('UPDATE', 'w')) AS k(command, letter)
      LEFT JOIN pg_attribute g ON g.attrelid = s.relation AND g.attname = s.deciding AND NOT g.attisdropped
     WHERE has_schema_privilege(a.oid, c.relnamespace, 'USAGE')
       AND CASE WHEN g.attnum IS NULL THEN has_any_column_privilege(a.oid, c.oid, k.command)
                ELSE has_column_privilege(a.oid, c.oid, g.attnum, k.command) END
       AND (NOT c.relrowsecurity
            -- With a policy that does not look at the tenant in what is written, and none under it that does.
            OR EXISTS (SELECT FROM pg_policy p
                        CROSS JOIN LATERAL (SELECT coalesce(pg_get_expr(p.polwithcheck, p.polrelid),
                                                            pg_get_expr(p.polqual, p.polrelid)) AS text) w
                        WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd::text IN ('*', k.letter)
                          AND EXISTS (SELECT FROM unnest(p.polroles) AS r(oid)
                                       WHERE r.oid = 0 OR pg_has_role(a.oid, nullif(r.oid, 0), 'USAGE'))
                          AND CASE WHEN g.attnum IS NULL THEN w.text = 'true' ELSE strpos(w.text, quote_ident(g.attname)) = 0 END)
               AND NOT EXISTS (SELECT FROM pg_policy p
                                WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd::text IN ('*', k.letter)
                                  AND EXISTS (SELECT FROM unnest(p.polroles) AS r(oid)
                                               WHERE r.oid = 0 OR pg_has_role(a.oid, nullif(r.oid, 0), 'USAGE'))
                                  AND strpos(coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid)),
                                             quote_ident(g.attname)) > 0))
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind, '' AS detail,
       format('%s ask it, and %s may %s', s.policies, string_agg(DISTINCT quote_ident(a.rolname), ', '),
              string_agg(DISTINCT w.command, ' and ')) AS message,
       CASE WHEN c.relrowsecurity THEN format('no policy compares %I in what is written', coalesce(s.deciding, '?'))
            ELSE 'row-level security is off' END AS evidence,
       format('REVOKE INSERT, UPDATE ON %I.%I FROM PUBLIC, %s;', n.nspname, c.relname,
              (SELECT string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname) FROM pg_roles r
                WHERE r.oid = ANY ($4::oid[]) AND r.oid <> c.relowner AND NOT r.rolsuper)) AS fix,
       NULL::text AS severity,
       NOT s.attacked AS stands
  FROM way w
  JOIN source s ON s.relation = w.relation
  JOIN acting a ON a.oid = w.role
  JOIN pg_class c ON c.oid = w.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
 GROUP BY c.oid, n.nspname, s.policies, s.deciding, s.attacked
