-- The customers of the platform.

CREATE TABLE tenancy.tenants (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    slug              text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    name              text NOT NULL CHECK (name <> ''),
    status            text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
    plan              text NOT NULL REFERENCES tenancy.plans ON UPDATE CASCADE,
    contact_email     text,
    organization_type text,
    website_url       text,
    branding          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(branding) = 'object'),
    settings          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    suspended_at      timestamptz,
    deleted_at        timestamptz,
    purge_after       timestamptz,
    CHECK ((status = 'deleted') = (deleted_at IS NOT NULL)),
    CHECK ((status = 'deleted') = (purge_after IS NOT NULL)),
    CHECK (status <> 'suspended' OR suspended_at IS NOT NULL)
);
COMMENT ON COLUMN tenancy.tenants.purge_after IS
    'From when a deleted tenant''s data may be removed for good; fixed when it was deleted';
CREATE INDEX tenants_plan ON tenancy.tenants (plan);

CREATE TABLE tenancy.tenant_aliases (
    slug       text PRIMARY KEY CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    tenant_id  uuid NOT NULL REFERENCES tenancy.tenants ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenancy.tenant_aliases IS 'Slugs that a tenant had before; they still lead to it';
CREATE INDEX tenant_aliases_tenant_id ON tenancy.tenant_aliases (tenant_id);

CALL tenancy.isolate('tenancy.tenants', 'id = (SELECT tenancy.current_tenant_id())');
CALL tenancy.isolate('tenancy.tenant_aliases', 'tenant_id = (SELECT tenancy.current_tenant_id())');
