-- Who changed what: written in the transaction of the change itself.

CREATE TABLE tenancy.audit_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    actor       text NOT NULL DEFAULT session_user,
    action      text NOT NULL,
    -- No reference: the entry outlives the tenant.
    tenant_id   uuid,
    details     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_tenant_id ON tenancy.audit_log (tenant_id);

CALL tenancy.isolate('tenancy.audit_log', 'tenant_id = (SELECT tenancy.current_tenant_id())');
