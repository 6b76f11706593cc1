-- id: child-unprotected
-- title: A table without a tenant column hangs on a tenant table, and nothing keeps its rows apart
-- severity: error
-- why: The rows belong to the tenant of the row that they reference; the parent's policies do not cover them.
-- fix: Give the table a policy through its parent, or a tenant column of its own.
-- example: CREATE TABLE public.attachments (event_id uuid REFERENCES public.events, content bytea);
-- example: GRANT SELECT ON public.attachments TO tenancy_app;
-- example: SELECT * FROM public.attachments;  -- as the application: the files of every tenant's events
WITH RECURSIVE
root AS (
    SELECT t.oid FROM unnest($1::oid[]) AS t(oid)
    UNION
    SELECT to_regclass('tenancy.tenants')::oid WHERE to_regclass('tenancy.tenants') IS NOT NULL
),
reference AS MATERIALIZED (
    SELECT k.conrelid, k.confrelid, k.conname, k.conkey, k.confkey
      FROM pg_constraint k
      JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'f' AND k.conrelid <> k.confrelid AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
       AND k.conrelid <> ALL ($1::oid[]) AND k.conrelid <> ALL ($7::oid[])
       AND n.nspname NOT IN ('information_schema', 'tenancy') AND n.nspname !~ '^pg_'
),
-- References may go round in a circle.
walk(oid, depth) AS (
    SELECT oid, 0 FROM root
    UNION
    SELECT k.conrelid, w.depth + 1 FROM walk w JOIN reference k ON k.confrelid = w.oid WHERE w.depth < 20
),
nearest AS (
    SELECT oid, min(depth) AS depth FROM walk GROUP BY oid
),
child AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity, s.depth,
           string_agg(DISTINCT quote_ident(r.rolname), ', ') AS holders
      FROM nearest s
      JOIN pg_class c ON c.oid = s.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_roles r ON r.oid = ANY ($4::oid[]) AND NOT r.rolsuper AND NOT r.rolbypassrls
     WHERE s.depth > 0
       AND NOT EXISTS (SELECT FROM pg_depend d
                        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
       AND has_schema_privilege(r.oid, n.oid, 'USAGE')
       AND (has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE')
            OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE'))
     GROUP BY c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity, s.depth
),
parent AS (
    SELECT DISTINCT ON (c.oid) c.oid, k.confrelid, k.conname, k.conkey, k.confkey
      FROM child c
      JOIN reference k ON k.conrelid = c.oid
      JOIN nearest s ON s.oid = k.confrelid AND s.depth = c.depth - 1
     ORDER BY c.oid, k.conname
),
policy AS (
    SELECT p.polrelid, p.polname, p.polpermissive, p.polcmd, p.polroles,
           -- What looks at another table, a function, a setting or at who asks may well be the tie.
           (EXISTS (SELECT FROM pg_depend d
                     WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                       AND (d.refclassid = 'pg_proc'::regclass
                            OR (d.refclassid = 'pg_class'::regclass AND d.refobjid <> p.polrelid)))
            OR concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
               ~* '(current_setting\(|\mcurrent_user\M|\msession_user\M)')
           AND coalesce(pg_get_expr(p.polqual, p.polrelid) <> 'true', true)
           AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid) <> 'true', true) AS tied
      FROM child c JOIN pg_policy p ON p.polrelid = c.oid
     WHERE c.relrowsecurity AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
state AS (
    SELECT c.oid,
           coalesce(bool_or(p.polpermissive AND p.tied), false) AS covered,
           coalesce(bool_or(NOT p.polpermissive AND p.tied AND p.polcmd = '*' AND 0 = ANY (p.polroles)), false) AS floor,
           coalesce(bool_or(p.polpermissive), false) AS permitted,
           string_agg(quote_ident(p.polname), ', ' ORDER BY p.polname) FILTER (WHERE p.polpermissive AND NOT p.tied) AS wide,
           string_agg(format('DROP POLICY %I ON %I.%I;', p.polname, c.nspname, c.relname), ' ' ORDER BY p.polname)
               FILTER (WHERE p.polpermissive AND NOT p.tied) AS drops
      FROM child c LEFT JOIN policy p ON p.polrelid = c.oid
     GROUP BY c.oid
)
SELECT c.oid AS relation, format('%I.%I', c.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind, '' AS detail,
       CASE WHEN NOT c.relrowsecurity
            THEN format('its rows belong to the tenant of the row in %s that they reference, and row-level security is off', f.parent)
            WHEN s.wide IS NOT NULL
            THEN format('its rows belong to the tenant of the row in %s that they reference, and policy %s does not look there', f.parent, s.wide)
            ELSE format('no policy lets the application see the rows that belong to its tenant''s in %s', f.parent) END AS message,
       format('foreign key %I to %s; reached by %s', p.conname, f.parent, c.holders) AS evidence,
       CASE WHEN p.confrelid = to_regclass('tenancy.tenants') AND cardinality(p.conkey) = 1
            THEN format('SELECT tenancy.protect(%L, %L);', format('%I.%I', c.nspname, c.relname), f.first)
            ELSE concat_ws(' ', s.drops,
                           CASE WHEN NOT c.relrowsecurity THEN format('ALTER TABLE %I.%I ENABLE ROW LEVEL SECURITY;', c.nspname, c.relname) END,
                           format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY;', c.nspname, c.relname),
                           CASE WHEN NOT s.covered
                                THEN format('CREATE POLICY tenant_through_parent ON %I.%I TO %s USING (EXISTS (SELECT FROM %s p WHERE %s));',
                                            c.nspname, c.relname, $6::regrole::text, f.parent, f.joined) END) END AS fix,
       CASE WHEN c.relrowsecurity AND s.wide IS NULL THEN 'warning' END AS severity
  FROM child c
  JOIN state s ON s.oid = c.oid
  JOIN parent p ON p.oid = c.oid
  CROSS JOIN LATERAL (
        SELECT format('%I.%I', max(m.nspname), max(q.relname)) AS parent, min(a.attname) AS first,
               string_agg(format('p.%I = %I.%I', b.attname, c.relname, a.attname), ' AND ' ORDER BY k.position) AS joined
          FROM unnest(p.conkey, p.confkey) WITH ORDINALITY AS k(here, there, position)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.here
          JOIN pg_attribute b ON b.attrelid = p.confrelid AND b.attnum = k.there
          JOIN pg_class q ON q.oid = p.confrelid
          JOIN pg_namespace m ON m.oid = q.relnamespace
       ) f
 WHERE NOT c.relrowsecurity OR NOT s.permitted OR (s.wide IS NOT NULL AND NOT s.floor)
