-- The registry of the platform's tables: which belong to tenants, and which are shared on purpose.

CREATE TABLE tenancy.protected_tables (
    relation      regclass PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('tenant', 'shared')),
    tenant_column text,
    registered_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'tenant') = (tenant_column IS NOT NULL))
);
COMMENT ON TABLE tenancy.protected_tables IS 'Tables under isolation, and tables declared as shared reference data';
DO $$
BEGIN
    EXECUTE format('GRANT SELECT ON tenancy.protected_tables TO %I', tenancy.role_name('auditor'));
END $$;
