-- Metrics as data, and limits in layers: a tenant's override, else the caller's environment, else its plan, else the
-- metric's default. All that the database knows of them is kept on the counter, so that the guard stays one predicate
-- on the row it updates.

ALTER TABLE tenancy.metrics
    -- max: the counter holds the largest amount that was reported in its period; each is held against the limit by itself.
    ADD COLUMN aggregation text NOT NULL DEFAULT 'sum' CHECK (aggregation IN ('sum', 'max')),
    -- The day of the month that a monthly period begins on, or the month's last where it has no such day.
    ADD COLUMN anchor_day smallint NOT NULL DEFAULT 1 CHECK (anchor_day BETWEEN 1 AND 31),
    -- What holds where a plan says nothing of the metric; NULL for unlimited.
    ADD COLUMN default_limit bigint CHECK (default_limit >= 0),
    ADD COLUMN default_soft boolean NOT NULL DEFAULT false,
    ADD CHECK (aggregation = 'sum' OR kind = 'counter'),
    ADD CHECK (anchor_day = 1 OR reset = 'monthly');

ALTER TABLE tenancy.tenants ADD COLUMN anchor_day smallint CHECK (anchor_day BETWEEN 1 AND 31);
COMMENT ON COLUMN tenancy.tenants.anchor_day IS
    'Day of the month that the tenant''s monthly periods begin on; NULL for that of each metric';

-- A soft limit admits what goes over it, and says so.
ALTER TABLE tenancy.plan_limits ADD COLUMN soft boolean NOT NULL DEFAULT false;

CREATE TABLE tenancy.limit_overrides (
    tenant_id   uuid NOT NULL REFERENCES tenancy.tenants ON DELETE CASCADE,
    metric      text NOT NULL REFERENCES tenancy.metrics ON UPDATE CASCADE ON DELETE CASCADE,
    limit_value bigint CHECK (limit_value >= 0),
    soft        boolean NOT NULL DEFAULT false,
    expires_at  timestamptz CHECK (isfinite(expires_at)),
    reason      text CHECK (reason <> ''),
    actor       text NOT NULL DEFAULT session_user,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, metric)
);
COMMENT ON TABLE tenancy.limit_overrides IS 'Limits of single tenants in place of their plans''; limit_value NULL for unlimited';
CREATE INDEX limit_overrides_metric ON tenancy.limit_overrides (metric);
CALL tenancy.isolate('tenancy.limit_overrides', 'tenant_id = (SELECT tenancy.current_tenant_id())');

-- limit_value and soft are the plan's or the default's. Whatever changes a layer calls refresh_limits or
-- refresh_plan_limits in the same transaction.
ALTER TABLE tenancy.usage_counters
    ADD COLUMN soft boolean NOT NULL DEFAULT false,
    ADD COLUMN override_value bigint CHECK (override_value >= 0),
    ADD COLUMN override_soft boolean,
    -- NULL where there is no override, infinity where it does not expire.
    ADD COLUMN override_until timestamptz,
    ADD CHECK ((override_until IS NULL) = (override_soft IS NULL));

-- What begins on a day of the month, or on the last where the month has no such day.
CREATE FUNCTION tenancy.month_anchor(month timestamp, day smallint) RETURNS timestamp
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(month + (day - 1) * interval '1 day', month + interval '1 month -1 day');

CREATE FUNCTION tenancy.usage_period(reset text, anchor_day smallint, at timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE reset
        WHEN 'daily' THEN date_trunc('day', at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
        WHEN 'monthly' THEN tenancy.month_anchor(
            date_trunc('month', at AT TIME ZONE 'UTC')
            - CASE WHEN at AT TIME ZONE 'UTC' < tenancy.month_anchor(date_trunc('month', at AT TIME ZONE 'UTC'), anchor_day)
                   THEN interval '1 month' ELSE interval '0' END, anchor_day) AT TIME ZONE 'UTC'
        ELSE '-infinity'::timestamptz END;
COMMENT ON FUNCTION tenancy.usage_period(text, smallint, timestamptz) IS
    'Start of the period that a time falls into, in UTC; monthly ones begin on a day of the month, or on its last';

-- The limit that holds, and where it comes from: NULL for the plan or the default.
CREATE TYPE tenancy.limit_in_force AS (limit_value bigint, soft boolean, source text);

-- The one place that decides it. p_environment is a limit from the caller's environment: NULL for none, -1 unlimited.
CREATE FUNCTION tenancy.limit_in_force(
    p_limit bigint, p_soft boolean, p_override bigint, p_override_soft boolean, p_override_until timestamptz,
    p_environment bigint) RETURNS tenancy.limit_in_force
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN ROW(CASE WHEN p_override_until > now() THEN p_override
                    WHEN p_environment IS NULL THEN p_limit
                    WHEN p_environment <> -1 THEN p_environment END,
               CASE WHEN p_override_until > now() THEN p_override_soft ELSE p_environment IS NULL AND p_soft END,
               CASE WHEN p_override_until > now() THEN 'override' WHEN p_environment IS NOT NULL THEN 'environment' END
              )::tenancy.limit_in_force;
REVOKE EXECUTE ON FUNCTION tenancy.limit_in_force FROM PUBLIC;

-- Every layer below the environment, of every tenant and metric, as a counter holds them.
CREATE VIEW tenancy.limit_layers WITH (security_invoker) AS
SELECT t.id AS tenant_id, m.key AS metric, t.plan,
       CASE WHEN l.plan IS NULL THEN m.default_limit ELSE l.limit_value END AS limit_value,
       CASE WHEN l.plan IS NULL THEN m.default_soft ELSE l.soft END AS soft,
       CASE WHEN l.plan IS NULL THEN 'default' ELSE 'plan' END AS source,
       o.limit_value AS override_value, o.soft AS override_soft,
       CASE WHEN o.tenant_id IS NOT NULL THEN coalesce(o.expires_at, 'infinity') END AS override_until
  FROM tenancy.tenants t
 CROSS JOIN tenancy.metrics m
  LEFT JOIN tenancy.plan_limits l ON l.plan = t.plan AND l.metric = m.key
  LEFT JOIN tenancy.limit_overrides o ON o.tenant_id = t.id AND o.metric = m.key;

-- The catalogue's limits are changed under a lock on plan_limits that makes whoever copies them onto a counter wait, and
-- waits for whoever has done so: neither can miss the other. It is taken before any counter is locked.
CREATE FUNCTION tenancy.read_plan_limits() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE tenancy.plan_limits IN ROW SHARE MODE;
END $$;
CREATE FUNCTION tenancy.change_plan_limits() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE tenancy.plan_limits IN EXCLUSIVE MODE;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.read_plan_limits, tenancy.change_plan_limits FROM PUBLIC;

-- Brings a tenant's counters in line. The caller has locked the tenant.
DROP FUNCTION tenancy.refresh_limits(uuid);
CREATE FUNCTION tenancy.refresh_limits(p_tenant uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tenancy.read_plan_limits();
    -- In the order in which everything locks several counters.
    PERFORM FROM tenancy.usage_counters c WHERE c.tenant_id = p_tenant
      ORDER BY c.tenant_id, c.metric, c.period_start FOR NO KEY UPDATE;
    UPDATE tenancy.usage_counters c
       SET limit_value = v.limit_value, soft = v.soft, override_value = v.override_value,
           override_soft = v.override_soft, override_until = v.override_until
      FROM tenancy.limit_layers v
     WHERE c.tenant_id = p_tenant AND v.tenant_id = p_tenant AND v.metric = c.metric
       AND (c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until)
           IS DISTINCT FROM (v.limit_value, v.soft, v.override_value, v.override_soft, v.override_until);
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.refresh_limits FROM PUBLIC;

-- Brings the counters of every tenant on some plans in line, and those of some metrics on any plan; tells how many
-- changed.
CREATE FUNCTION tenancy.refresh_plan_limits(p_plans text[], p_metrics text[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    changed bigint;
BEGIN
    PERFORM tenancy.change_plan_limits();
    PERFORM FROM tenancy.usage_counters c
       JOIN tenancy.limit_layers v ON v.tenant_id = c.tenant_id AND v.metric = c.metric
      WHERE (v.plan = ANY (p_plans) OR v.metric = ANY (p_metrics))
        AND (c.limit_value, c.soft) IS DISTINCT FROM (v.limit_value, v.soft)
      ORDER BY c.tenant_id, c.metric, c.period_start FOR NO KEY UPDATE OF c;
    UPDATE tenancy.usage_counters c
       SET limit_value = v.limit_value, soft = v.soft
      FROM tenancy.limit_layers v
     WHERE v.tenant_id = c.tenant_id AND v.metric = c.metric
       AND (v.plan = ANY (p_plans) OR v.metric = ANY (p_metrics))
       AND (c.limit_value, c.soft) IS DISTINCT FROM (v.limit_value, v.soft);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.refresh_plan_limits FROM PUBLIC;

-- Whether an amount fits a counter: a release finds that much to give back, anything else stays within the limit, or
-- where that is soft within what the counter can hold.
DROP FUNCTION tenancy.usage_fits(bigint, bigint, bigint, bigint);
CREATE FUNCTION tenancy.usage_fits(p_used bigint, p_amount bigint, p_aggregation text, p_limit bigint, p_soft boolean)
RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN p_amount < 0 THEN p_used >= -p_amount
                ELSE CASE WHEN p_aggregation = 'max' THEN 0 ELSE p_used END
                     <= CASE WHEN p_soft THEN 9223372036854775807 ELSE coalesce(p_limit, 9223372036854775807) END - p_amount END;
REVOKE EXECUTE ON FUNCTION tenancy.usage_fits FROM PUBLIC;

-- Adds an amount to a counter if it fits. The check is a predicate on the row that is updated: PostgreSQL evaluates it
-- again on the newest version after waiting for a concurrent update, so no interleaving admits too much. Where it is
-- admitted, previous is what the counter held before: until the transaction ends nobody else can change it.
DROP FUNCTION tenancy.admit_usage(uuid, text, bigint, timestamptz, bigint);
CREATE FUNCTION tenancy.admit_usage(
    p_tenant uuid, p_metric text, p_amount bigint, p_period timestamptz, p_environment bigint, p_aggregation text,
    OUT admitted boolean, OUT used bigint, OUT limit_value bigint, OUT soft boolean, OUT previous bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    LOOP
        IF p_aggregation = 'max' THEN
            SELECT c.used INTO previous FROM tenancy.usage_counters c
             WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period FOR NO KEY UPDATE;
        END IF;
        UPDATE tenancy.usage_counters c
           SET used = CASE p_aggregation WHEN 'max' THEN greatest(c.used, p_amount) ELSE c.used + p_amount END,
               updated_at = now()
         WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period
           AND (p_aggregation <> 'max' OR previous IS NOT NULL)
           AND tenancy.usage_fits(c.used, p_amount, p_aggregation,
                   (tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, p_environment)).limit_value,
                   (tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, p_environment)).soft)
        RETURNING c.used, coalesce(previous, c.used - p_amount),
               (tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, p_environment)).limit_value,
               (tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, p_environment)).soft
          INTO used, previous, limit_value, soft;
        admitted := FOUND;
        EXIT WHEN admitted;

        -- Each statement sees what was committed before it: this one may see a counter that was not there a moment ago,
        -- or one that somebody released. Refused is only what does not fit the figures that the answer gives.
        SELECT c.used, f.limit_value, f.soft INTO used, limit_value, soft
          FROM tenancy.usage_counters c
         CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft,
                                                   c.override_until, p_environment) f
         WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period;
        IF FOUND THEN
            EXIT WHEN NOT tenancy.usage_fits(used, p_amount, p_aggregation, limit_value, soft);
            CONTINUE;
        END IF;

        -- The first use in a period. The locks make a concurrent change of any layer wait, or us for it, so that the new
        -- counter cannot miss it.
        PERFORM FROM tenancy.tenants t WHERE t.id = p_tenant FOR SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no tenant %', p_tenant USING ERRCODE = 'TN004';
        END IF;
        PERFORM FROM tenancy.metrics m WHERE m.key = p_metric FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no metric %', p_metric USING ERRCODE = 'TN001';
        END IF;
        PERFORM tenancy.read_plan_limits();
        INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start, limit_value, soft,
                                            override_value, override_soft, override_until)
        SELECT p_tenant, p_metric, p_period, v.limit_value, v.soft, v.override_value, v.override_soft, v.override_until
          FROM tenancy.limit_layers v WHERE v.tenant_id = p_tenant AND v.metric = p_metric
        ON CONFLICT DO NOTHING;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.admit_usage FROM PUBLIC;

-- Records usage for the tenant in context, if its limit allows it. Any language calls this as the application role:
--   SELECT * FROM tenancy.track_usage(tenant, 'events', 1, 'import-2026-11');
-- outcome is accepted, over_soft_limit (accepted, too, and over a limit that is soft), duplicate (the key was seen
-- before; the first answer is returned) or rejected (nothing is counted).
CREATE OR REPLACE FUNCTION tenancy.track_usage(
    p_tenant uuid, p_metric text, p_amount bigint DEFAULT 1, p_key text DEFAULT NULL,
    p_at timestamptz DEFAULT NULL, p_environment bigint DEFAULT NULL)
RETURNS TABLE (outcome text, amount bigint, used bigint, limit_value bigint, period_start timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    metric   tenancy.metrics;
    tenant   record;
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
    SELECT t.status, t.anchor_day INTO tenant FROM tenancy.tenants t WHERE t.id = p_tenant;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no tenant %', p_tenant USING ERRCODE = 'TN004';
    ELSIF tenant.status <> 'active' THEN
        RAISE EXCEPTION 'tenant % is %', p_tenant, tenant.status USING ERRCODE = 'TN005';
    END IF;

    SELECT * INTO earlier FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key;
    IF earlier.id IS NULL THEN
        period := tenancy.usage_period(metric.reset, coalesce(tenant.anchor_day, metric.anchor_day), occurred);
        SELECT * INTO decision
          FROM tenancy.admit_usage(p_tenant, p_metric, p_amount, period, p_environment, metric.aggregation);
        IF decision.admitted THEN
            INSERT INTO tenancy.usage_events (tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
            VALUES (p_tenant, p_metric, p_amount, p_key, occurred, period, decision.used, decision.limit_value)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                RETURN QUERY SELECT CASE WHEN decision.soft AND p_amount > 0 AND decision.used > decision.limit_value
                                         THEN 'over_soft_limit' ELSE 'accepted' END,
                                    p_amount, decision.used, decision.limit_value, period;
                RETURN;
            END IF;
            -- The same key was admitted while we waited for the counter: give back what we took.
            UPDATE tenancy.usage_counters c SET used = decision.previous
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

DROP FUNCTION tenancy.usage_period(text, timestamptz);
