-- id: view-definer
-- title: A view reads tenant rows with the rights of an owner that no policy binds
-- severity: error
-- why: Without security_invoker a view reads as its owner; where that owner is exempt, so is everyone who may use the view.
-- fix: Set security_invoker on the view, or give it to a role that the policies bind.
-- suspicion: probe
-- example: CREATE VIEW public.all_events AS SELECT * FROM public.events;  -- by a superuser
-- example: GRANT SELECT ON public.all_events TO tenancy_app;
-- example: SELECT * FROM public.all_events;  -- as the application: all rows
WITH RECURSIVE
depends AS (
    SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation
      FROM pg_rewrite r
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid <> r.ev_class
      JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
     WHERE r.rulename = '_RETURN'
),
entry AS (
    SELECT c.oid, (array_agg(role.oid ORDER BY role.oid <> $6, role.oid))[1] AS role
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN unnest($4::oid[]) AS role(oid)
     WHERE c.relkind = 'v' AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND has_schema_privilege(role.oid, n.oid, 'USAGE')
       AND (has_table_privilege(role.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
            OR has_any_column_privilege(role.oid, c.oid, 'SELECT, INSERT, UPDATE'))
     GROUP BY c.oid
),
-- The view nearest to the table that is not an invoker decides whose rights count.
walk(entry, relation, definer) AS (
    SELECT oid, oid, NULL::oid FROM entry
    UNION
    SELECT w.entry, d.relation,
           CASE WHEN coalesce((SELECT o.option_value::boolean FROM pg_options_to_table(v.reloptions) o
                                WHERE o.option_name = 'security_invoker'), false)
                THEN w.definer ELSE v.oid END
      FROM walk w JOIN pg_class v ON v.oid = w.relation AND v.relkind = 'v' JOIN depends d ON d.view = w.relation
)
SELECT e.oid AS relation, format('%I.%I', n.nspname, e.relname) AS object, 'view' AS object_kind,
       '' AS detail,
       format('reads %s as %I, whom no policy binds', string_agg(DISTINCT b.oid::regclass::text, ', '), min(o.rolname)) AS message,
       format('definer view %s, owner %I', string_agg(DISTINCT v.oid::regclass::text, ', '), min(o.rolname)) AS evidence,
       format('ALTER VIEW %s SET (security_invoker = true);', min(v.oid::regclass::text)) AS fix,
       NULL::text AS severity,
       ARRAY['role ' || min(y.role), 'relation ' || e.oid, 'relation ' || (array_agg(v.oid ORDER BY b.oid, v.oid))[1],
             'relation ' || min(b.oid)] AS path
  FROM walk w
  JOIN unnest($1::oid[]) AS t(oid) ON t.oid = w.relation
  JOIN pg_class b ON b.oid = w.relation
  JOIN pg_class v ON v.oid = w.definer
  JOIN pg_roles o ON o.oid = v.relowner
  JOIN pg_class e ON e.oid = w.entry
  JOIN entry y ON y.oid = w.entry
  JOIN pg_namespace n ON n.oid = e.relnamespace
 WHERE b.relrowsecurity
   AND (o.rolsuper OR o.rolbypassrls
        OR (NOT b.relforcerowsecurity AND pg_has_role(o.oid, b.relowner, 'USAGE'))
        OR (o.oid <> ALL ($4::oid[])
            AND EXISTS (SELECT FROM pg_policy p
                         WHERE p.polrelid = b.oid AND p.polpermissive AND p.polcmd::text IN ('*', 'r')
                           AND pg_get_expr(p.polqual, p.polrelid) = 'true'
                           AND (0 = ANY (p.polroles)
                                OR EXISTS (SELECT FROM unnest(p.polroles) AS r(oid)
                                            WHERE r.oid <> 0 AND pg_has_role(o.oid, r.oid, 'USAGE'))))
            AND NOT EXISTS (SELECT FROM pg_policy p
                             WHERE p.polrelid = b.oid AND NOT p.polpermissive AND p.polcmd::text IN ('*', 'r')
                               AND pg_get_expr(p.polqual, p.polrelid) !~* '\mor\M'
                               AND (0 = ANY (p.polroles) OR o.oid = ANY (p.polroles)))))
 GROUP BY e.oid, n.nspname, e.relname
