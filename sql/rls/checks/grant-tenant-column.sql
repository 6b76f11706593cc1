-- id: grant-tenant-column
-- title: The application role may update the tenant column, and the policies allow several tenants
-- severity: warning
-- why: Where WITH CHECK does not pin the column to one tenant, one UPDATE moves rows from tenant to tenant.
-- fix: Grant UPDATE on the other columns only (`rls setup` does it).
-- example: CREATE POLICY p ON public.events USING (tenant_id IN (SELECT tenant_id FROM public.members WHERE user_id = current_setting('app.user')));
-- example: GRANT UPDATE ON public.events TO tenancy_app;
-- example: UPDATE public.events SET tenant_id = '…the user''s other tenant…';  -- as the application: this tenant's rows are gone
WITH held AS (
    SELECT c.oid, c.relname, c.relkind, n.nspname, f.attname, f.attnum, a.grantee, a.whole
      FROM unnest($1::oid[], $2::text[], $3::boolean[]) AS t(oid, tenant_column, reachable)
      JOIN pg_class c ON c.oid = t.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute f ON f.attrelid = c.oid AND f.attname = t.tenant_column AND NOT f.attisdropped AND f.attgenerated = ''
     CROSS JOIN LATERAL (
            SELECT x.grantee, true AS whole FROM aclexplode(c.relacl) x WHERE x.privilege_type = 'UPDATE'
            UNION ALL
            SELECT x.grantee, false FROM aclexplode(f.attacl) x WHERE x.privilege_type = 'UPDATE'
           ) a
     WHERE t.reachable AND c.relrowsecurity AND a.grantee <> c.relowner AND (a.grantee = 0 OR a.grantee = ANY ($4::oid[]))
),
-- Policies whose check leaves the column one value: compared for equality, with no alternative.
policy AS (
    SELECT p.polrelid, p.polpermissive, p.polroles,
           y.text ~ format('(^|\()%s\s*=', regexp_replace(quote_ident(t.tenant_column), '([^[:alnum:]_])', '\\\1', 'g'))
           AND y.text !~* '(\mor\M|\many\M|\min\M)' AS pins
      FROM (SELECT o.oid, s.qual, s.checked FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN unnest($1::oid[], $2::text[]) AS t(oid, tenant_column) ON t.oid = p.polrelid
     CROSS JOIN LATERAL (SELECT coalesce(x.checked, x.qual) AS text) y
     WHERE p.polrelid IN (SELECT h.oid FROM held h) AND p.polcmd IN ('*', 'w')
       AND (0 = ANY (p.polroles) OR p.polroles && $4::oid[])
),
pinned AS (
    SELECT p.polrelid AS oid FROM policy p GROUP BY p.polrelid
    HAVING bool_and(p.pins) FILTER (WHERE p.polpermissive)
        OR bool_or(p.pins AND NOT p.polpermissive AND 0 = ANY (p.polroles))
),
grants AS (
    SELECT h.oid, h.relname, h.relkind, h.nspname, h.attname, h.attnum, r.rolname,
           bool_or(h.whole) AS whole, coalesce(quote_ident(r.rolname), 'PUBLIC') AS holder
      FROM held h LEFT JOIN pg_roles r ON r.oid = h.grantee
     WHERE h.grantee = 0 OR NOT r.rolsuper
     GROUP BY h.oid, h.relname, h.relkind, h.nspname, h.attname, h.attnum, r.rolname
)
SELECT g.oid AS relation, format('%I.%I', g.nspname, g.relname) AS object,
       CASE g.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       format('the application may change %I, and the policies allow more than one value', g.attname) AS message,
       format('UPDATE held through %s', string_agg(g.holder, ', ' ORDER BY g.holder)) AS evidence,
       string_agg(CASE WHEN g.whole
                       THEN concat_ws(' ', format('REVOKE UPDATE ON %I.%I FROM %s;', g.nspname, g.relname, g.holder),
                                      (SELECT format('GRANT UPDATE (%s) ON %I.%I TO %s;',
                                                     string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), g.nspname, g.relname, g.holder)
                                         FROM pg_attribute a
                                        WHERE a.attrelid = g.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                                          AND a.attnum <> g.attnum
                                       HAVING count(*) > 0))
                       ELSE format('REVOKE UPDATE (%I) ON %I.%I FROM %s;', g.attname, g.nspname, g.relname, g.holder) END,
                  ' ' ORDER BY g.holder) AS fix,
       -- Without the control plane users often have several tenants, and moving a row between theirs may be wanted.
       CASE WHEN $9::oid IS NULL THEN 'note' END AS severity
  FROM grants g
 WHERE g.oid NOT IN (SELECT d.oid FROM pinned d)
 GROUP BY g.oid, g.nspname, g.relname, g.relkind, g.attname
