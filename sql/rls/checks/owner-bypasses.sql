-- id: owner-bypasses
-- title: Tenant tables belong to a role that no policy binds
-- severity: warning
-- why: FORCE binds an ordinary owner only: whatever a superuser or a role with BYPASSRLS owns, its views and definer functions read every tenant's rows.
-- fix: Give the tables to a role without login, SUPERUSER and BYPASSRLS (`rls setup` does it).
-- example: ALTER TABLE public.events OWNER TO postgres;
-- example: CREATE VIEW public.report AS SELECT * FROM public.events;  -- by the owner: all rows for whoever may read the view, FORCE or not
WITH owned AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, n.oid AS nspoid, n.nspname, t.tenant_column, c.relowner, c.relispartition
      FROM unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable)
      JOIN pg_class c ON c.oid = t.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE t.reachable AND c.relrowsecurity AND c.relforcerowsecurity
),
-- A name for the owner to be, where no control plane has one.
successor AS (
    SELECT v.name, r.oid IS NULL AS missing
      FROM (VALUES (1, current_database() || '_owner'), (2, current_database() || '_table_owner')) AS v(position, name)
      LEFT JOIN pg_roles r ON r.rolname = v.name
     WHERE r.oid IS NULL OR NOT (r.rolsuper OR r.rolbypassrls OR r.oid = ANY ($4::oid[]))
     ORDER BY v.position LIMIT 1
)
SELECT NULL::oid AS relation, format('%I', o.rolname) AS object, 'role' AS object_kind, '' AS detail,
       'the role owns tenant tables, and no policy binds it: its views and definer functions read every tenant''s rows' AS message,
       format('%s; owner of %s%s', CASE WHEN o.rolsuper THEN 'SUPERUSER' ELSE 'BYPASSRLS' END,
              (array_agg(t.name ORDER BY t.name))[1],
              CASE WHEN count(*) > 1 THEN format(' and %s more', count(*) - 1) ELSE '' END) AS evidence,
       CASE WHEN $9::oid IS NOT NULL
            THEN string_agg(format('SELECT tenancy.protect(%L, %L);', t.name, t.tenant_column), ' ' ORDER BY t.relispartition, t.name)
            ELSE concat_ws(' ', (SELECT format('CREATE ROLE %I NOLOGIN;', s.name) FROM successor s WHERE s.missing),
                           (SELECT string_agg(DISTINCT format('GRANT USAGE ON SCHEMA %I TO %I;', w.nspname, s.name), ' ')
                              FROM owned w CROSS JOIN successor s WHERE w.relowner = o.oid),
                           string_agg(format('ALTER TABLE %s OWNER TO %I;', t.name, (SELECT s.name FROM successor s)),
                                      ' ' ORDER BY t.name)) END AS fix,
       -- Where nobody set the tables up, a superuser mostly owns them: what it hands out has checks of its own.
       CASE WHEN $9::oid IS NULL THEN 'note' END AS severity
  FROM owned t
  JOIN pg_roles o ON o.oid = t.relowner
 WHERE o.rolsuper OR o.rolbypassrls
 GROUP BY o.oid, o.rolname, o.rolsuper
