-- The floor is what the application's policy says, in the same words, unless the admin role may bypass isolation: PostgreSQL
-- drops the second of two equal quals, so the floor costs a statement nothing. With the bypass it asks for the admin role
-- without a sub-select: only where the comparison did not decide. Tables protected before keep the floor they have, which
-- holds as much, until the next setup.

-- The policies that are missing, or that bear our name and are no longer ours. Others' policies stay: the restrictive
-- floor holds whatever they permit.
CREATE OR REPLACE FUNCTION tenancy.policy_changes(p_relation regclass, p_column text, p_bypass boolean)
RETURNS TABLE (action text, statement text, note text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
#variable_conflict use_column
DECLARE
    relation_name CONSTANT text := tenancy.checked_name(p_relation);
    app           CONSTANT text := tenancy.role_name('app');
    admin         CONSTANT text := tenancy.role_name('admin');
    tenant        record;
    wanted        record;
    present       boolean;
BEGIN
    SELECT * INTO tenant FROM tenancy.tenant_term(p_relation, p_column);
    FOR wanted IN
        SELECT * FROM (VALUES
            ('tenant_isolation', true, app, true, tenant.term, tenant.deparsed),
            ('tenant_floor', true, NULL, false,
             CASE WHEN p_bypass THEN format('%s OR pg_catalog.pg_has_role(%L, ''USAGE'')', tenant.term, admin) ELSE tenant.term END,
             CASE WHEN p_bypass THEN format('(%s OR pg_has_role(%L::name, ''USAGE''::text))', tenant.deparsed, admin)
                  ELSE tenant.deparsed END),
            ('tenant_admin', p_bypass, admin, true, 'true', 'true')
        ) AS w (name, wanted, role, permissive, term, deparsed)
    LOOP
        present := EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = p_relation AND p.polname = wanted.name);
        CONTINUE WHEN present = wanted.wanted AND (NOT present OR EXISTS (
            SELECT FROM pg_policy p
             WHERE p.polrelid = p_relation AND p.polname = wanted.name AND p.polcmd = '*'
               AND p.polpermissive = wanted.permissive
               AND p.polroles = ARRAY[coalesce(to_regrole(quote_ident(wanted.role))::oid, 0)]
               AND pg_get_expr(p.polqual, p.polrelid) = wanted.deparsed
               AND pg_get_expr(p.polwithcheck, p.polrelid) = wanted.deparsed));
        IF present THEN
            RETURN QUERY SELECT 'drop_policy', format('DROP POLICY %I ON %s', wanted.name, relation_name), NULL::text;
        END IF;
        IF wanted.wanted THEN
            RETURN QUERY SELECT 'policy', format('CREATE POLICY %I ON %s AS %s FOR ALL TO %s USING (%s) WITH CHECK (%s)',
                wanted.name, relation_name, CASE WHEN wanted.permissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                coalesce(quote_ident(wanted.role), 'PUBLIC'), wanted.term, wanted.term), NULL::text;
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT 'enable', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation_name), NULL::text
      FROM pg_class c WHERE c.oid = p_relation AND NOT c.relrowsecurity
    UNION ALL
    SELECT 'force', format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation_name), NULL::text
      FROM pg_class c WHERE c.oid = p_relation AND NOT c.relforcerowsecurity;
END $$;
