-- What tenants have used, and the one place that decides whether they may use more.

CREATE TABLE tenancy.usage_counters (
    tenant_id    uuid NOT NULL REFERENCES tenancy.tenants ON DELETE CASCADE,
    metric       text NOT NULL REFERENCES tenancy.metrics ON UPDATE CASCADE,
    -- '-infinity' for metrics that never reset.
    period_start timestamptz NOT NULL,
    used         bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    -- The plan's limit, kept here so that the check is a predicate on the row it updates. Whatever changes the plan of
    -- a tenant or the limits of a plan calls refresh_limits in the same transaction.
    limit_value  bigint CHECK (limit_value >= 0),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, metric, period_start)
);

CREATE TABLE tenancy.usage_events (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenancy.tenants ON DELETE CASCADE,
    metric       text NOT NULL REFERENCES tenancy.metrics ON UPDATE CASCADE,
    amount       bigint NOT NULL,
    key          text CHECK (octet_length(key) BETWEEN 1 AND 1024),
    occurred_at  timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    -- The answer that was given, for whoever asks again with the same key.
    period_start timestamptz NOT NULL,
    used         bigint NOT NULL,
    limit_value  bigint,
    UNIQUE (tenant_id, key)
);
COMMENT ON TABLE tenancy.usage_events IS 'Ledger of admitted usage; its key makes a replay harmless';

CALL tenancy.isolate('tenancy.usage_counters', 'tenant_id = (SELECT tenancy.current_tenant_id())');
CALL tenancy.isolate('tenancy.usage_events', 'tenant_id = (SELECT tenancy.current_tenant_id())');

CREATE FUNCTION tenancy.usage_period(reset text, at timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE reset WHEN 'daily' THEN date_trunc('day', at, 'UTC')
                      WHEN 'monthly' THEN date_trunc('month', at, 'UTC')
                      ELSE '-infinity'::timestamptz END;
COMMENT ON FUNCTION tenancy.usage_period IS 'Start of the period that a time falls into, in UTC';

-- Brings the limits on a tenant's counters in line with its plan.
CREATE FUNCTION tenancy.refresh_limits(p_tenant uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE tenancy.usage_counters c
       SET limit_value = (SELECT l.limit_value FROM tenancy.plan_limits l
                           WHERE l.plan = t.plan AND l.metric = c.metric)
      FROM tenancy.tenants t
     WHERE t.id = p_tenant AND c.tenant_id = p_tenant;
$$;
REVOKE EXECUTE ON FUNCTION tenancy.refresh_limits FROM PUBLIC;

-- Adds an amount to a counter if the limit allows it. The check is a predicate on the row that is updated: PostgreSQL
-- evaluates it again on the newest version after waiting for a concurrent update, so no interleaving admits too much.
-- p_environment is a limit from the caller's environment that stands in for the plan's: NULL for none, -1 unlimited.
CREATE FUNCTION tenancy.admit_usage(
    p_tenant uuid, p_metric text, p_amount bigint, p_period timestamptz, p_environment bigint,
    OUT admitted boolean, OUT used bigint, OUT limit_value bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    most CONSTANT bigint := 9223372036854775807;
BEGIN
    FOR attempt IN 1..2 LOOP
        UPDATE tenancy.usage_counters c
           SET used = c.used + p_amount, updated_at = now()
         WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period
           AND CASE WHEN p_amount < 0 THEN c.used >= -p_amount
                    WHEN p_environment = -1 THEN c.used <= most - p_amount
                    ELSE c.used <= coalesce(p_environment, c.limit_value, most) - p_amount END
        RETURNING c.used, c.limit_value INTO used, limit_value;
        admitted := FOUND;
        EXIT WHEN admitted;

        SELECT c.used, c.limit_value INTO used, limit_value FROM tenancy.usage_counters c
         WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period;
        EXIT WHEN FOUND;

        -- The first use in a period. The lock on the tenant makes a concurrent change of plan wait, or us for it, so
        -- that the new counter cannot miss the new limit.
        PERFORM FROM tenancy.tenants t WHERE t.id = p_tenant FOR SHARE;
        INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start, limit_value)
        SELECT p_tenant, p_metric, p_period,
               (SELECT l.limit_value FROM tenancy.plan_limits l WHERE l.plan = t.plan AND l.metric = p_metric)
          FROM tenancy.tenants t WHERE t.id = p_tenant
        ON CONFLICT DO NOTHING;
    END LOOP;
    limit_value := CASE WHEN p_environment = -1 THEN NULL ELSE coalesce(p_environment, limit_value) END;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.admit_usage FROM PUBLIC;

-- Records usage for the tenant in context, if its limit allows it. Any language calls this as the application role:
--   SELECT * FROM tenancy.track_usage(tenant, 'events', 1, 'import-2026-11');
-- outcome is accepted, duplicate (the key was seen before; the first answer is returned) or rejected (nothing is counted).
CREATE FUNCTION tenancy.track_usage(
    p_tenant uuid, p_metric text, p_amount bigint DEFAULT 1, p_key text DEFAULT NULL,
    p_at timestamptz DEFAULT NULL, p_environment bigint DEFAULT NULL)
RETURNS TABLE (outcome text, amount bigint, used bigint, limit_value bigint, period_start timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    metric   tenancy.metrics;
    status   text;
    earlier  tenancy.usage_events;
    decision record;
    occurred timestamptz := coalesce(p_at, now());
    period   timestamptz;
BEGIN
    IF tenancy.current_tenant_id() IS DISTINCT FROM p_tenant OR p_tenant IS NULL THEN
        RAISE EXCEPTION 'usage of tenant % can only be tracked in its own context', p_tenant
            USING ERRCODE = 'insufficient_privilege', HINT = 'set app.current_tenant_id to the tenant in this transaction';
    END IF;
    IF p_environment IS NOT NULL AND NOT pg_has_role(session_user, tenancy.role_name('owner'), 'MEMBER') THEN
        RAISE EXCEPTION 'only an operator may stand in for a plan''s limit' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO metric FROM tenancy.metrics m WHERE m.key = p_metric;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no metric %', p_metric USING ERRCODE = 'TN001';
    ELSIF metric.source <> 'reported' THEN
        RAISE EXCEPTION 'metric % is counted from %', p_metric, metric.source USING ERRCODE = 'TN002';
    ELSIF p_amount IS NULL OR p_amount = 0 OR p_amount = -9223372036854775808
          OR (p_amount < 0 AND metric.kind = 'counter') THEN
        RAISE EXCEPTION 'amount % does not fit metric %, a %', p_amount, p_metric, metric.kind USING ERRCODE = 'TN003';
    END IF;
    IF NOT isfinite(occurred) THEN
        RAISE EXCEPTION 'usage cannot occur at %', occurred USING ERRCODE = 'TN003';
    END IF;
    SELECT t.status INTO status FROM tenancy.tenants t WHERE t.id = p_tenant;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no tenant %', p_tenant USING ERRCODE = 'TN004';
    ELSIF status <> 'active' THEN
        RAISE EXCEPTION 'tenant % is %', p_tenant, status USING ERRCODE = 'TN005';
    END IF;

    SELECT * INTO earlier FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key;
    IF earlier.id IS NULL THEN
        period := tenancy.usage_period(metric.reset, occurred);
        SELECT * INTO decision FROM tenancy.admit_usage(p_tenant, p_metric, p_amount, period, p_environment);
        IF decision.admitted THEN
            INSERT INTO tenancy.usage_events (tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
            VALUES (p_tenant, p_metric, p_amount, p_key, occurred, period, decision.used, decision.limit_value)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                RETURN QUERY SELECT 'accepted', p_amount, decision.used, decision.limit_value, period;
                RETURN;
            END IF;
            -- The same key was admitted while we waited for the counter: give back what we took.
            UPDATE tenancy.usage_counters c SET used = c.used - p_amount
             WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = period;
        END IF;
        SELECT * INTO earlier FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key;
        IF earlier.id IS NULL THEN
            RETURN QUERY SELECT 'rejected', p_amount, decision.used, decision.limit_value, period;
            RETURN;
        END IF;
    END IF;

    IF earlier.metric <> p_metric OR earlier.amount <> p_amount THEN
        RAISE EXCEPTION 'key % was used for % of %', quote_literal(p_key), earlier.amount, earlier.metric
            USING ERRCODE = 'TN006';
    END IF;
    RETURN QUERY SELECT 'duplicate', earlier.amount, earlier.used, earlier.limit_value, earlier.period_start;
END $$;

REVOKE EXECUTE ON FUNCTION tenancy.track_usage FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION tenancy.track_usage TO %I', tenancy.role_name('app'));
END $$;
