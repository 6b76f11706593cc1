-- What everything else stands on: the names of the roles, and the context that says which tenant a transaction serves.

COMMENT ON SCHEMA tenancy IS 'Control plane of tenantctl: tenants, users, plans, usage, isolation';

-- The prefix is fixed when the control plane is made, so that no caller can point a policy at other roles.
DO $$
BEGIN
    EXECUTE format(
        'CREATE FUNCTION tenancy.role_name(kind text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
         RETURN %L || kind',
        coalesce(nullif(current_setting('tenancy.role_prefix', true), ''), 'tenancy') || '_');
END $$;
COMMENT ON FUNCTION tenancy.role_name IS 'Name of the role of a kind: owner, app, admin or auditor';

-- After set_config(..., true) the variable reads '' and not NULL for the rest of the session, hence nullif.
CREATE FUNCTION tenancy.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.current_tenant_id', true), '')::uuid;
COMMENT ON FUNCTION tenancy.current_tenant_id IS
    'Tenant that the transaction serves, from the setting app.current_tenant_id; NULL without a context';

CREATE FUNCTION tenancy.current_tenant_id_text() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.current_tenant_id', true), '');
COMMENT ON FUNCTION tenancy.current_tenant_id_text IS 'tenancy.current_tenant_id() for tenant columns of type text';

CREATE FUNCTION tenancy.current_tenant_id_bigint() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.current_tenant_id', true), '')::bigint;
COMMENT ON FUNCTION tenancy.current_tenant_id_bigint IS 'tenancy.current_tenant_id() for tenant columns of type bigint';

-- Puts one table of the control plane under row-level security: the owner sees all, the application role the rows of
-- the tenant in context. Only migrations call it.
CREATE PROCEDURE tenancy.isolate(relation regclass, tenant_term text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);
    EXECUTE format('CREATE POLICY control_plane ON %s TO %I USING (true) WITH CHECK (true)',
                   relation, tenancy.role_name('owner'));
    EXECUTE format('CREATE POLICY tenant_isolation ON %s FOR SELECT TO %I USING (%s)',
                   relation, tenancy.role_name('app'), tenant_term);
    EXECUTE format('GRANT SELECT ON %s TO %I', relation, tenancy.role_name('app'));
END $$;
REVOKE EXECUTE ON PROCEDURE tenancy.isolate FROM PUBLIC;

DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA tenancy TO %I, %I, %I',
                   tenancy.role_name('app'), tenancy.role_name('admin'), tenancy.role_name('auditor'));
    EXECUTE format('GRANT SELECT ON tenancy._sqlx_migrations TO %I, %I',
                   tenancy.role_name('app'), tenancy.role_name('auditor'));
END $$;
