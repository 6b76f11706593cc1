-- Usage that is reserved before work that may fail: it counts against the limit at once, and becomes usage when it is
-- committed, or goes back when it is released or its time is over.

CREATE TABLE tenancy.usage_reservations (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id    uuid NOT NULL,
    metric       text NOT NULL,
    period_start timestamptz NOT NULL,
    amount       bigint NOT NULL CHECK (amount > 0),
    -- open: its amount is part of the counter. expired: it was given back because somebody needed it.
    state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'committed', 'released', 'expired')),
    key          text COLLATE "C" CHECK (octet_length(key) BETWEEN 1 AND 1024),
    -- What was counted in the end.
    committed    bigint,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    closed_at    timestamptz,
    UNIQUE (tenant_id, key),
    FOREIGN KEY (tenant_id, metric, period_start) REFERENCES tenancy.usage_counters ON UPDATE CASCADE ON DELETE CASCADE,
    CHECK ((state = 'open') = (closed_at IS NULL)),
    CHECK ((state = 'committed') = (committed IS NOT NULL))
);
COMMENT ON TABLE tenancy.usage_reservations IS 'Usage that is held for work that may fail';
CREATE INDEX usage_reservations_open ON tenancy.usage_reservations (tenant_id, metric, period_start, expires_at) WHERE state = 'open';
CREATE INDEX usage_reservations_counter ON tenancy.usage_reservations (tenant_id, metric, period_start);
CREATE INDEX usage_reservations_closed ON tenancy.usage_reservations (closed_at) WHERE state <> 'open';
CALL tenancy.isolate('tenancy.usage_reservations', 'tenant_id = (SELECT tenancy.current_tenant_id())');

-- Gives back what is reserved on a counter for longer than it was to be; whether there was any. Whoever changes a
-- reservation has locked its counter first.
CREATE FUNCTION tenancy.reclaim_usage(p_tenant uuid, p_metric text, p_period timestamptz) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    back bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM tenancy.usage_reservations r
                    WHERE r.tenant_id = p_tenant AND r.metric = p_metric AND r.period_start = p_period
                      AND r.state = 'open' AND r.expires_at <= now()) THEN
        RETURN false;
    END IF;
    PERFORM FROM tenancy.usage_counters c
      WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period FOR NO KEY UPDATE;
    WITH gone AS (
        UPDATE tenancy.usage_reservations r SET state = 'expired', closed_at = now()
         WHERE r.tenant_id = p_tenant AND r.metric = p_metric AND r.period_start = p_period
           AND r.state = 'open' AND r.expires_at <= now()
        RETURNING r.amount
    )
    SELECT sum(g.amount) INTO back FROM gone g;
    UPDATE tenancy.usage_counters c SET used = c.used - coalesce(back, 0), updated_at = now()
     WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period;
    -- Somebody else may have given it back while we waited: then, too, there is more room than there was.
    RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.reclaim_usage FROM PUBLIC;

-- As before, but that reservations whose time is over give way.
CREATE OR REPLACE FUNCTION tenancy.admit_usage(
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
            EXIT WHEN NOT tenancy.usage_fits(used, p_amount, p_aggregation, limit_value, soft)
                      -- What is reserved in vain makes room.
                      AND (p_amount < 0 OR NOT tenancy.reclaim_usage(p_tenant, p_metric, p_period));
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

-- Reserves usage for the tenant in context, if its limit allows it. outcome is accepted, over_soft_limit, duplicate (the
-- key was seen before: reservation is the one that it made, or NULL where it is usage already) or rejected.
CREATE FUNCTION tenancy.reserve_usage(
    p_tenant uuid, p_metric text, p_amount bigint DEFAULT 1, p_ttl interval DEFAULT '15 minutes', p_key text DEFAULT NULL,
    p_environment bigint DEFAULT NULL)
RETURNS TABLE (outcome text, reservation uuid, amount bigint, used bigint, limit_value bigint, period_start timestamptz,
               expires_at timestamptz, state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    metric   tenancy.metrics;
    tenant   record;
    earlier  record;
    decision record;
    period   timestamptz;
    made     uuid;
BEGIN
    IF tenancy.current_tenant_id() IS DISTINCT FROM p_tenant OR p_tenant IS NULL THEN
        RAISE EXCEPTION 'usage of tenant % can only be reserved in its own context', p_tenant
            USING ERRCODE = 'insufficient_privilege', HINT = 'set app.current_tenant_id to the tenant in this transaction';
    END IF;
    IF p_environment IS NOT NULL AND NOT pg_has_role(session_user, tenancy.role_name('owner'), 'MEMBER') THEN
        RAISE EXCEPTION 'only an operator may stand in for a plan''s limit' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO metric FROM tenancy.metrics m WHERE m.key = p_metric;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no metric %', p_metric USING ERRCODE = 'TN001';
    ELSIF metric.source <> 'reported' OR metric.aggregation <> 'sum' THEN
        RAISE EXCEPTION 'metric % cannot be reserved', p_metric USING ERRCODE = 'TN002',
            DETAIL = 'only what callers report, and what is summed, can be';
    ELSIF p_amount IS NULL OR p_amount <= 0 THEN
        RAISE EXCEPTION 'amount % cannot be reserved', p_amount USING ERRCODE = 'TN003';
    ELSIF p_ttl IS NULL OR p_ttl <= interval '0' OR p_ttl > interval '30 days' THEN
        RAISE EXCEPTION 'usage cannot be reserved for %', p_ttl USING ERRCODE = 'TN003', HINT = 'reserve it for at most 30 days';
    END IF;
    SELECT t.status, t.anchor_day INTO tenant FROM tenancy.tenants t WHERE t.id = p_tenant;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no tenant %', p_tenant USING ERRCODE = 'TN004';
    ELSIF tenant.status <> 'active' THEN
        RAISE EXCEPTION 'tenant % is %', p_tenant, tenant.status USING ERRCODE = 'TN005';
    END IF;
    period := tenancy.usage_period(metric.reset, coalesce(tenant.anchor_day, metric.anchor_day), now());
    PERFORM tenancy.usage_epoch();

    -- Twice: the second time where the same key came while we waited for the counter.
    FOR attempt IN 1..2 LOOP
        IF p_key IS NOT NULL THEN
            SELECT r.id, r.metric, r.amount, r.period_start, r.expires_at, r.state INTO earlier
              FROM tenancy.usage_reservations r WHERE r.tenant_id = p_tenant AND r.key = p_key;
            IF NOT FOUND THEN
                SELECT NULL::uuid AS id, e.metric, e.amount, e.period_start, NULL::timestamptz AS expires_at, 'committed' AS state
                  INTO earlier FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key LIMIT 1;
            END IF;
            IF FOUND THEN
                IF (earlier.metric, earlier.amount) <> (p_metric, p_amount) THEN
                    RAISE EXCEPTION 'key % was used for % of %', quote_literal(p_key), earlier.amount, earlier.metric
                        USING ERRCODE = 'TN006';
                END IF;
                RETURN QUERY
                    SELECT 'duplicate', earlier.id, earlier.amount, c.used, f.limit_value, earlier.period_start,
                           earlier.expires_at, earlier.state
                      FROM tenancy.usage_counters c
                     CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft,
                                                               c.override_until, p_environment) f
                     WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = earlier.period_start;
                RETURN;
            END IF;
        END IF;
        SELECT * INTO decision FROM tenancy.admit_usage(p_tenant, p_metric, p_amount, period, p_environment, metric.aggregation);
        IF NOT decision.admitted THEN
            RETURN QUERY SELECT 'rejected', NULL::uuid, p_amount, decision.used, decision.limit_value, period,
                                NULL::timestamptz, NULL::text;
            RETURN;
        END IF;
        INSERT INTO tenancy.usage_reservations (tenant_id, metric, period_start, amount, key, expires_at)
        VALUES (p_tenant, p_metric, period, p_amount, p_key, now() + p_ttl)
        ON CONFLICT DO NOTHING RETURNING id INTO made;
        IF FOUND THEN
            RETURN QUERY SELECT CASE WHEN decision.soft AND decision.used > decision.limit_value
                                     THEN 'over_soft_limit' ELSE 'accepted' END,
                                made, p_amount, decision.used, decision.limit_value, period, now() + p_ttl, 'open';
            RETURN;
        END IF;
        UPDATE tenancy.usage_counters c SET used = decision.previous
         WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = period;
    END LOOP;
    RAISE EXCEPTION 'the reservation of key % went away', quote_literal(p_key) USING ERRCODE = 'serialization_failure';
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.reserve_usage FROM PUBLIC;

-- Makes a reservation usage, all of it or a part; what is left goes back. It may be late, as long as nobody needed the
-- room. outcome is accepted, or duplicate (it was committed before, or its key was tracked meanwhile).
CREATE FUNCTION tenancy.commit_usage(p_tenant uuid, p_reservation uuid, p_amount bigint DEFAULT NULL)
RETURNS TABLE (outcome text, metric text, amount bigint, used bigint, limit_value bigint, period_start timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    current int;
    held    tenancy.usage_reservations;
    counter record;
    taken   bigint;
    known   boolean := false;
BEGIN
    held := tenancy.lock_reservation(p_tenant, p_reservation);
    taken := coalesce(p_amount, held.amount);
    IF held.state = 'open' AND taken NOT BETWEEN 1 AND held.amount THEN
        RAISE EXCEPTION 'amount % is not within the % that are reserved', taken, held.amount USING ERRCODE = 'TN003';
    ELSIF held.state = 'committed' AND p_amount <> held.committed THEN
        RAISE EXCEPTION 'reservation % was committed with %', p_reservation, held.committed USING ERRCODE = 'TN006';
    ELSIF held.state IN ('released', 'expired') THEN
        RAISE EXCEPTION 'reservation % is %', p_reservation, held.state USING ERRCODE = 'TN008',
            HINT = 'track the usage, if the limit allows it still';
    END IF;
    IF held.state = 'open' THEN
        current := tenancy.usage_epoch();
        known := held.key IS NOT NULL AND EXISTS (
            SELECT FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = held.key);
        UPDATE tenancy.usage_counters c SET used = c.used - held.amount + CASE WHEN known THEN 0 ELSE taken END, updated_at = now()
         WHERE c.tenant_id = p_tenant AND c.metric = held.metric AND c.period_start = held.period_start;
    END IF;
    SELECT c.used, f.limit_value INTO counter
      FROM tenancy.usage_counters c
     CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, NULL) f
     WHERE c.tenant_id = p_tenant AND c.metric = held.metric AND c.period_start = held.period_start;
    IF held.state = 'open' THEN
        IF NOT known THEN
            -- The same key at the same moment waits for the same counter, which we have.
            INSERT INTO tenancy.usage_events (epoch, tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
            VALUES (current, p_tenant, held.metric, taken, held.key, held.created_at, held.period_start, counter.used, counter.limit_value);
        END IF;
        UPDATE tenancy.usage_reservations r SET state = 'committed', committed = taken, closed_at = now()
         WHERE r.id = p_reservation;
    END IF;
    RETURN QUERY SELECT CASE WHEN held.state = 'open' AND NOT known THEN 'accepted' ELSE 'duplicate' END, held.metric,
                        coalesce(held.committed, taken), counter.used, counter.limit_value, held.period_start;
END $$;

-- Gives a reservation back; false where that was done before.
CREATE FUNCTION tenancy.release_usage(p_tenant uuid, p_reservation uuid)
RETURNS TABLE (released boolean, metric text, amount bigint, used bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    held tenancy.usage_reservations;
BEGIN
    held := tenancy.lock_reservation(p_tenant, p_reservation);
    IF held.state = 'committed' THEN
        RAISE EXCEPTION 'reservation % is committed', p_reservation USING ERRCODE = 'TN008',
            HINT = 'what is used of a gauge can be released by tracking a negative amount';
    END IF;
    IF held.state = 'open' THEN
        UPDATE tenancy.usage_counters c SET used = c.used - held.amount, updated_at = now()
         WHERE c.tenant_id = p_tenant AND c.metric = held.metric AND c.period_start = held.period_start;
        UPDATE tenancy.usage_reservations r SET state = 'released', closed_at = now() WHERE r.id = p_reservation;
    END IF;
    RETURN QUERY SELECT held.state = 'open', held.metric, held.amount, c.used FROM tenancy.usage_counters c
                  WHERE c.tenant_id = p_tenant AND c.metric = held.metric AND c.period_start = held.period_start;
END $$;

-- A reservation of the tenant in context as it is now, locked after its counter.
CREATE FUNCTION tenancy.lock_reservation(p_tenant uuid, p_reservation uuid) RETURNS tenancy.usage_reservations
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    held tenancy.usage_reservations;
BEGIN
    IF tenancy.current_tenant_id() IS DISTINCT FROM p_tenant OR p_tenant IS NULL THEN
        RAISE EXCEPTION 'a reservation of tenant % can only be changed in its own context', p_tenant
            USING ERRCODE = 'insufficient_privilege', HINT = 'set app.current_tenant_id to the tenant in this transaction';
    END IF;
    PERFORM FROM tenancy.usage_counters c
       JOIN tenancy.usage_reservations r ON (r.tenant_id, r.metric, r.period_start) = (c.tenant_id, c.metric, c.period_start)
      WHERE r.tenant_id = p_tenant AND r.id = p_reservation FOR NO KEY UPDATE OF c;
    SELECT * INTO held FROM tenancy.usage_reservations r WHERE r.tenant_id = p_tenant AND r.id = p_reservation FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant % has no reservation %', p_tenant, p_reservation USING ERRCODE = 'TN009';
    END IF;
    RETURN held;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.commit_usage, tenancy.release_usage, tenancy.lock_reservation FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION tenancy.reserve_usage, tenancy.commit_usage, tenancy.release_usage TO %I',
                   tenancy.role_name('app'));
END $$;
