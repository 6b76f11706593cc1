-- id: view-leaky
-- title: A view that keeps tenants apart by its own condition has no security barrier
-- severity: warning
-- why: PostgreSQL may run the reader's condition before the view's: a cast or function that fails on a hidden row tells what is in it.
-- fix: Set security_barrier on the view, or security_invoker, so that the policies decide.
-- example: CREATE VIEW public.mine AS SELECT * FROM public.events WHERE tenant_id = tenancy.current_tenant_id();  -- by a superuser
-- example: SELECT * FROM public.mine WHERE title::int = 0;  -- as the application: invalid input syntax for type integer: "Another tenant's title"
WITH RECURSIVE
depends AS MATERIALIZED (
    SELECT DISTINCT r.ev_class AS view, d.refobjid AS relation
      FROM pg_rewrite r
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid <> r.ev_class
      JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
     WHERE r.rulename = '_RETURN'
),
entry AS MATERIALIZED (
    SELECT DISTINCT c.oid
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN unnest($4::oid[]) AS role(oid)
     WHERE c.relkind = 'v' AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
       AND has_schema_privilege(role.oid, n.oid, 'USAGE')
       AND (has_table_privilege(role.oid, c.oid, 'SELECT') OR has_any_column_privilege(role.oid, c.oid, 'SELECT'))
),
options AS MATERIALIZED (
    SELECT v.oid, v.relowner,
           coalesce((SELECT o.option_value::boolean FROM pg_options_to_table(v.reloptions) o
                      WHERE o.option_name = 'security_invoker'), false) AS invoker,
           coalesce((SELECT o.option_value::boolean FROM pg_options_to_table(v.reloptions) o
                      WHERE o.option_name = 'security_barrier'), false) AS barrier
      FROM pg_class v WHERE v.oid IN (SELECT view FROM depends) AND v.relnamespace <> 'pg_catalog'::regnamespace
),
-- A condition on who asks. That of an invoker's view protects nothing: its reader may read what is under it.
view AS MATERIALIZED (
    SELECT o.*, CASE WHEN o.invoker THEN false
                     ELSE pg_get_viewdef(o.oid) ~* '\m(where|join|having)\M.*\m(current_setting|current_tenant\w*|current_user|session_user|uid|jwt)\M' END AS filters
      FROM options o
),
-- Down to the table, with the views on the way whose condition nothing protects; a barrier with a condition ends it.
walk(entry, relation, definer, leaky) AS (
    SELECT e.oid, e.oid, NULL::oid, NULL::oid FROM entry e
    UNION
    SELECT w.entry, d.relation, CASE WHEN v.invoker THEN w.definer ELSE v.relowner END,
           CASE WHEN v.filters THEN v.oid ELSE w.leaky END
      FROM walk w JOIN view v ON v.oid = w.relation JOIN depends d ON d.view = v.oid
     WHERE NOT (v.filters AND v.barrier)
)
SELECT v.oid AS relation, format('%I.%I', n.nspname, v.relname) AS object, 'view' AS object_kind, '' AS detail,
       format('its own condition keeps the tenants of %s apart, but a reader''s function may run first',
              string_agg(DISTINCT b.oid::regclass::text, ', ')) AS message,
       format('no security_barrier, owner %I', min(o.rolname)) AS evidence,
       format('ALTER VIEW %I.%I SET (security_barrier = true);', n.nspname, v.relname) AS fix,
       NULL::text AS severity
  FROM walk w
  JOIN unnest($1::oid[]) AS t(oid) ON t.oid = w.relation
  JOIN pg_class b ON b.oid = w.relation
  JOIN pg_roles o ON o.oid = w.definer
  JOIN pg_class v ON v.oid = w.leaky
  JOIN pg_namespace n ON n.oid = v.relnamespace
 -- Where the policies bind the view's owner they decide, and their conditions are barriers.
 WHERE NOT b.relrowsecurity OR o.rolsuper OR o.rolbypassrls
    OR (NOT b.relforcerowsecurity AND pg_has_role(o.oid, b.relowner, 'USAGE'))
 GROUP BY v.oid, n.nspname, v.relname
