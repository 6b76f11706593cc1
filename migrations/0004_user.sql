-- People, and their memberships of tenants.

CREATE TABLE tenancy.users (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email      text NOT NULL UNIQUE CHECK (email = lower(email) AND email <> ''),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tenancy.memberships (
    tenant_id   uuid NOT NULL REFERENCES tenancy.tenants ON DELETE CASCADE,
    user_id     uuid NOT NULL REFERENCES tenancy.users,
    role        text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    permissions jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(permissions) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_user_id ON tenancy.memberships (user_id);

CALL tenancy.isolate('tenancy.memberships', 'tenant_id = (SELECT tenancy.current_tenant_id())');
CALL tenancy.isolate('tenancy.users',
    'EXISTS (SELECT FROM tenancy.memberships m
              WHERE m.user_id = users.id AND m.tenant_id = (SELECT tenancy.current_tenant_id()))');
