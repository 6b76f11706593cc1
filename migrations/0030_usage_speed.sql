-- The same answers in less time, and releases that leave what is reserved.

-- It is too much to be inlined, and as an SQL function would be planned anew in each statement.
CREATE OR REPLACE FUNCTION tenancy.month_anchor(month timestamp, day smallint) RETURNS timestamp
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN least(month + (day - 1) * interval '1 day', month + interval '1 month -1 day');
END $$;

-- A counter's limits are copied from tables that check them; each update of what is used would read and check these again.
ALTER TABLE tenancy.usage_counters
    DROP CONSTRAINT usage_counters_check,
    DROP CONSTRAINT usage_counters_limit_value_check,
    DROP CONSTRAINT usage_counters_override_value_check;

-- The epoch to record in, which stays the newest until the transaction ends.
CREATE OR REPLACE FUNCTION tenancy.usage_epoch() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    newest int;
BEGIN
    -- "tena", and the first lock of ours that is in this form.
    PERFORM pg_advisory_xact_lock_shared(1952804449, 1);
    SELECT max(e.epoch) INTO newest FROM tenancy.usage_epochs e;
    -- A snapshot older than the epoch sees not all that was recorded in the one before. The names of tables are looked up
    -- as they are now, whatever the snapshot, once a lock that is new to the transaction has made it hear of them.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        LOCK TABLE tenancy.usage_epochs IN ROW SHARE MODE;
        IF to_regclass('tenancy.usage_events_' || newest + 1) IS NOT NULL THEN
            RAISE EXCEPTION 'a new epoch of the usage ledger was opened since this transaction began'
                USING ERRCODE = 'serialization_failure', HINT = 'run the transaction again';
        END IF;
    END IF;
    RETURN newest;
END $$;

-- What of a counter is reserved: also what is reserved in vain, until somebody needs the room.
CREATE FUNCTION tenancy.reserved_usage(p_tenant uuid, p_metric text, p_period timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(sum(r.amount), 0) FROM tenancy.usage_reservations r
             WHERE r.tenant_id = p_tenant AND r.metric = p_metric AND r.period_start = p_period AND r.state = 'open');
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.reserved_usage FROM PUBLIC;

-- As before, but that a release leaves what is reserved: only what is used can be given back.
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
        IF admitted AND p_amount < 0 AND used < tenancy.reserved_usage(p_tenant, p_metric, p_period) THEN
            UPDATE tenancy.usage_counters c SET used = previous
             WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period;
            admitted := false;
            used := previous;
            EXIT;
        END IF;
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

-- Makes a reservation usage, all of it or a part; what is left goes back. It may be late, as long as nobody needed the
-- room. outcome is accepted, or duplicate (it was committed before, or its key was tracked meanwhile). A key that was recorded for another metric is TN012.
CREATE OR REPLACE FUNCTION tenancy.commit_usage(p_tenant uuid, p_reservation uuid, p_amount bigint DEFAULT NULL)
RETURNS TABLE (outcome text, metric text, amount bigint, used bigint, limit_value bigint, period_start timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    current int;
    held    tenancy.usage_reservations;
    counter record;
    taken   bigint;
    known   boolean := false;
    recorded text;
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
        SELECT e.metric INTO recorded FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = held.key;
        known := FOUND;
        IF recorded <> held.metric THEN
            RAISE EXCEPTION 'key % was used for %', quote_literal(held.key), recorded
                USING ERRCODE = 'TN012', HINT = 'release the reservation';
        END IF;
        UPDATE tenancy.usage_counters c SET used = c.used - held.amount + CASE WHEN known THEN 0 ELSE taken END, updated_at = now()
         WHERE c.tenant_id = p_tenant AND c.metric = held.metric AND c.period_start = held.period_start;
    END IF;
    SELECT c.used, f.limit_value INTO counter
      FROM tenancy.usage_counters c
     CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, NULL) f
     WHERE c.tenant_id = p_tenant AND c.metric = held.metric AND c.period_start = held.period_start;
    IF held.state = 'open' THEN
        IF NOT known THEN
            INSERT INTO tenancy.usage_events (epoch, tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
            VALUES (current, p_tenant, held.metric, taken, held.key, held.created_at, held.period_start, counter.used, counter.limit_value)
            ON CONFLICT DO NOTHING;
            -- For the same metric it would have waited for the same counter, which we have.
            IF NOT FOUND THEN
                RAISE EXCEPTION 'key % was used for another metric', quote_literal(held.key)
                    USING ERRCODE = 'TN012', HINT = 'release the reservation';
            END IF;
        END IF;
        UPDATE tenancy.usage_reservations r SET state = 'committed', committed = taken, closed_at = now()
         WHERE r.id = p_reservation;
    END IF;
    RETURN QUERY SELECT CASE WHEN held.state = 'open' AND NOT known THEN 'accepted' ELSE 'duplicate' END, held.metric,
                        coalesce(held.committed, taken), counter.used, counter.limit_value, held.period_start;
END $$;

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
    about    record;
    current  int;
    earlier  record;
    known    boolean := false;
    decision record;
    occurred timestamptz := coalesce(p_at, now());
BEGIN
    IF tenancy.current_tenant_id() IS DISTINCT FROM p_tenant OR p_tenant IS NULL THEN
        RAISE EXCEPTION 'usage of tenant % can only be tracked in its own context', p_tenant
            USING ERRCODE = 'insufficient_privilege', HINT = 'set app.current_tenant_id to the tenant in this transaction';
    END IF;
    IF p_environment IS NOT NULL AND NOT pg_has_role(session_user, tenancy.role_name('owner'), 'MEMBER') THEN
        RAISE EXCEPTION 'only an operator may stand in for a plan''s limit' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT m.source, m.kind, m.aggregation, t.status,
           CASE WHEN isfinite(occurred)
                THEN tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), occurred) END AS period
      INTO about
      FROM tenancy.metrics m LEFT JOIN tenancy.tenants t ON t.id = p_tenant
     WHERE m.key = p_metric;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no metric %', p_metric USING ERRCODE = 'TN001';
    ELSIF about.source <> 'reported' THEN
        RAISE EXCEPTION 'metric % is counted from %', p_metric, about.source USING ERRCODE = 'TN002';
    ELSIF p_amount IS NULL OR p_amount = 0 OR p_amount = -9223372036854775808
          OR (p_amount < 0 AND about.kind = 'counter') THEN
        RAISE EXCEPTION 'amount % does not fit metric %, a %', p_amount, p_metric, about.kind USING ERRCODE = 'TN003';
    ELSIF about.period IS NULL THEN
        RAISE EXCEPTION 'usage cannot occur at %', occurred USING ERRCODE = 'TN003';
    ELSIF about.status IS NULL THEN
        RAISE EXCEPTION 'there is no tenant %', p_tenant USING ERRCODE = 'TN004';
    ELSIF about.status <> 'active' THEN
        RAISE EXCEPTION 'tenant % is %', p_tenant, about.status USING ERRCODE = 'TN005';
    END IF;

    -- From here on no key can be recorded in an older epoch.
    current := tenancy.usage_epoch();
    amount := p_amount;
    period_start := about.period;
    IF p_key IS NOT NULL THEN
        SELECT e.metric, e.amount, e.used, e.limit_value, e.period_start INTO earlier
          FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key;
        known := FOUND;
    END IF;
    IF NOT known THEN
        decision := tenancy.admit_usage(p_tenant, p_metric, p_amount, about.period, p_environment, about.aggregation);
        used := decision.used;
        limit_value := decision.limit_value;
        IF decision.admitted THEN
            -- Whoever begins to meter it locks all its counters: we have ours, and look again.
            INSERT INTO tenancy.usage_events (epoch, tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
            SELECT current, p_tenant, p_metric, p_amount, p_key, occurred, about.period, decision.used, decision.limit_value
              FROM tenancy.metrics m WHERE m.key = p_metric AND m.source = 'reported'
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                outcome := CASE WHEN decision.soft AND p_amount > 0 AND decision.used > decision.limit_value
                                THEN 'over_soft_limit' ELSE 'accepted' END;
                RETURN NEXT;
                RETURN;
            END IF;
            SELECT m.source INTO about.source FROM tenancy.metrics m WHERE m.key = p_metric;
            IF about.source <> 'reported' THEN
                RAISE EXCEPTION 'metric % is counted from %', p_metric, about.source USING ERRCODE = 'TN002';
            END IF;
            -- The same key was admitted while we waited for the counter: give back what we took.
            UPDATE tenancy.usage_counters c SET used = decision.previous
             WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = about.period;
        END IF;
        SELECT e.metric, e.amount, e.used, e.limit_value, e.period_start INTO earlier
          FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key;
        IF NOT FOUND THEN
            outcome := 'rejected';
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;

    IF earlier.metric <> p_metric OR earlier.amount <> p_amount THEN
        RAISE EXCEPTION 'key % was used for % of %', quote_literal(p_key), earlier.amount, earlier.metric
            USING ERRCODE = 'TN006';
    END IF;
    outcome := 'duplicate';
    amount := earlier.amount;
    used := earlier.used;
    limit_value := earlier.limit_value;
    period_start := earlier.period_start;
    RETURN NEXT;
END $$;

-- Reserves usage for the tenant in context, if its limit allows it. outcome is accepted, over_soft_limit, duplicate (the
-- key was seen before: reservation is the one that it made, or NULL where it is usage already) or rejected.
CREATE OR REPLACE FUNCTION tenancy.reserve_usage(
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
        -- As in track_usage.
        INSERT INTO tenancy.usage_reservations (tenant_id, metric, period_start, amount, key, expires_at)
        SELECT p_tenant, p_metric, period, p_amount, p_key, now() + p_ttl
          FROM tenancy.metrics m WHERE m.key = p_metric AND m.source = 'reported'
        ON CONFLICT DO NOTHING RETURNING id INTO made;
        IF FOUND THEN
            RETURN QUERY SELECT CASE WHEN decision.soft AND decision.used > decision.limit_value
                                     THEN 'over_soft_limit' ELSE 'accepted' END,
                                made, p_amount, decision.used, decision.limit_value, period, now() + p_ttl, 'open';
            RETURN;
        END IF;
        SELECT m.source INTO metric.source FROM tenancy.metrics m WHERE m.key = p_metric;
        IF metric.source <> 'reported' THEN
            RAISE EXCEPTION 'metric % cannot be reserved', p_metric USING ERRCODE = 'TN002',
                DETAIL = 'only what callers report, and what is summed, can be';
        END IF;
        UPDATE tenancy.usage_counters c SET used = decision.previous
         WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = period;
    END LOOP;
    RAISE EXCEPTION 'the reservation of key % went away', quote_literal(p_key) USING ERRCODE = 'serialization_failure';
END $$;
