-- id: recursive-policy
-- title: Policies query each other in a circle: every query of the tables fails
-- severity: warning
-- why: PostgreSQL applies policies inside policies, and gives up on a circle with an error (42P17, or 54001 through a function).
-- fix: Let one of them compare the tenant column with the context, or put its look-up into a SECURITY DEFINER function.
-- example: CREATE POLICY p ON public.members USING (team_id IN (SELECT team_id FROM public.members));
-- example: SELECT * FROM public.members;  -- as the application: infinite recursion detected in policy for relation "members"
WITH RECURSIVE
policy AS MATERIALIZED (
    SELECT p.oid, p.polrelid, p.polname,
           -- What has no FROM reads no table; unpacking the trees costs most.
           CASE WHEN x.oid IS NULL OR strpos(x.qual, 'FROM ') > 0 THEN p.polqual::text END AS tree
      FROM pg_policy p
      JOIN pg_class c ON c.oid = p.polrelid
      LEFT JOIN (SELECT o.oid, s.qual FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
                   LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x ON x.oid = p.oid
     WHERE c.relrowsecurity AND p.polcmd IN ('*', 'r')
       AND (0 = ANY (p.polroles)
            OR EXISTS (SELECT FROM unnest(p.polroles) AS r(oid) WHERE r.oid <> 0 AND pg_has_role($6::oid, r.oid, 'USAGE')))
),
-- Functions that run as whoever asks, and what their bodies read.
helper AS (
    SELECT DISTINCT d.objid AS policy, f.oid, f.prosrc
      FROM pg_depend d JOIN pg_proc f ON f.oid = d.refobjid JOIN pg_language l ON l.oid = f.prolang
     WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass
       AND f.pronamespace IN (SELECT n.oid FROM pg_namespace n WHERE n.nspname <> 'tenancy')
       AND NOT f.prosecdef AND l.lanname IN ('sql', 'plpgsql')
),
body AS (
    SELECT h.oid, c.oid AS relation
      FROM (SELECT DISTINCT oid, prosrc FROM helper) h
     CROSS JOIN LATERAL regexp_matches(h.prosrc,
            '\m(?:from|join)\s+(?:only\s+)?(?:(?:"([^"]+)"|([[:alpha:]_][[:alnum:]_$]*))\s*\.\s*)?(?:"([^"]+)"|([[:alpha:]_][[:alnum:]_$]*))', 'gi') AS m(found)
      JOIN pg_class c ON c.relname = coalesce(m.found[3], lower(m.found[4]))
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = coalesce(m.found[1], lower(m.found[2]), n.nspname)
    UNION
    SELECT h.oid, d.refobjid
      FROM helper h JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = h.oid AND d.refclassid = 'pg_class'::regclass
),
reads AS (
    SELECT p.oid AS policy, m.found[1]::oid AS relation
      FROM policy p
     CROSS JOIN LATERAL regexp_matches(p.tree, ':relid (\d+)', 'g') AS m(found)
     WHERE p.tree IS NOT NULL
    UNION
    SELECT h.policy, b.relation FROM helper h JOIN body b ON b.oid = h.oid
),
-- A view hands the policies of its tables on, unless its owner is exempt.
through(policy, relation) AS (
    SELECT policy, relation FROM reads
    UNION
    SELECT t.policy, d.refobjid
      FROM through t
      JOIN pg_class v ON v.oid = t.relation AND v.relkind = 'v'
      JOIN pg_roles o ON o.oid = v.relowner
      JOIN pg_rewrite w ON w.ev_class = v.oid AND w.rulename = '_RETURN'
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid <> v.oid
     WHERE NOT (o.rolsuper OR o.rolbypassrls)
        OR coalesce((SELECT x.option_value::boolean FROM pg_options_to_table(v.reloptions) x
                      WHERE x.option_name = 'security_invoker'), false)
),
edge AS MATERIALIZED (
    SELECT DISTINCT p.polrelid AS "from", t.relation AS "to", p.oid AS policy
      FROM through t JOIN policy p ON p.oid = t.policy
     WHERE t.relation IN (SELECT polrelid FROM policy)
),
walk(start, at) AS (
    SELECT "from", "to" FROM edge
    UNION
    SELECT w.start, e."to" FROM walk w JOIN edge e ON e."from" = w.at
)
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind, '' AS detail,
       CASE WHEN count(DISTINCT q.oid) = 1 AND bool_and(q.oid = c.oid) THEN 'its policy queries the table itself, which applies the policy again'
            ELSE format('its policies lead back to it through %s', string_agg(DISTINCT q.oid::regclass::text, ', ') FILTER (WHERE q.oid <> c.oid))
       END AS message,
       string_agg(DISTINCT format('policy %I reads %s', p.polname, q.oid::regclass), '; ') AS evidence,
       string_agg(DISTINCT format('ALTER POLICY %I ON %I.%I USING (%s);', p.polname, n.nspname, c.relname, coalesce(k.term, '…')), ' ') AS fix,
       NULL::text AS severity
  FROM walk w
  JOIN pg_class c ON c.oid = w.start
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN edge e ON e."from" = c.oid
  JOIN pg_policy p ON p.oid = e.policy
  JOIN pg_class q ON q.oid = e."to"
  LEFT JOIN unnest($1::oid[], $2::text[]) AS t(oid, tenant_column) ON t.oid = c.oid
  -- Without the control plane only a setting that is the tenant's key itself can be compared.
  LEFT JOIN LATERAL (
        SELECT CASE WHEN $9::oid IS NOT NULL
                    THEN format('%I = (SELECT tenancy.current_tenant_id%s())', a.attname,
                                CASE a.atttypid WHEN 'uuid'::regtype THEN '' WHEN 'bigint'::regtype THEN '_bigint'
                                                WHEN 'integer'::regtype THEN '_bigint' ELSE '_text' END)
                    WHEN cardinality($8::text[]) = 1 AND $8[1] !~ 'claim'
                    THEN format('%I = nullif(current_setting(%L, true), '''')::%s', a.attname, $8[1], format_type(a.atttypid, a.atttypmod))
               END AS term
          FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = t.tenant_column AND NOT a.attisdropped
       ) k ON true
 WHERE w.at = w.start
   AND (e."to" = c.oid OR EXISTS (SELECT FROM walk b WHERE b.start = e."to" AND b.at = c.oid))
 GROUP BY c.oid, n.nspname
