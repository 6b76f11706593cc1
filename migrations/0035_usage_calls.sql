-- A call in less time: track_usage in fewer statements, and counters that no trigger locks before they are updated.

-- Before an UPDATE a trigger would have PostgreSQL lock the row, and write that to the log, even where it does not fire. So
-- the bounds of alerts follow what they go by in a second UPDATE, which is rare. The trigger that records alerts goes by the
-- counter as it is when the transaction ends, and finds the right ones then.
CREATE OR REPLACE FUNCTION tenancy.bound_usage_alerts() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most  CONSTANT bigint := (tenancy.limit_in_force(NEW.limit_value, NEW.soft, NEW.override_value, NEW.override_soft,
                                                     NEW.override_until, NULL)).limit_value;
    bound tenancy.usage_counters := NEW;
BEGIN
    IF coalesce(most, 0) = 0 THEN
        bound.alert_level := 0;
    END IF;
    bound.alert_at := tenancy.usage_threshold(most, CASE bound.alert_level WHEN 0 THEN 80 WHEN 80 THEN 90 WHEN 90 THEN 100 END);
    bound.alert_below := tenancy.usage_threshold(most, nullif(bound.alert_level, 0));
    bound.alert_until := CASE WHEN NEW.override_until > now() THEN NEW.override_until END;
    IF TG_OP = 'UPDATE' AND bound IS DISTINCT FROM NEW THEN
        UPDATE tenancy.usage_counters c
           SET alert_level = bound.alert_level, alert_at = bound.alert_at, alert_below = bound.alert_below,
               alert_until = bound.alert_until
         WHERE c.tenant_id = NEW.tenant_id AND c.metric = NEW.metric AND c.period_start = NEW.period_start;
    END IF;
    RETURN bound;
END $$;
DROP TRIGGER bound_usage_alerts ON tenancy.usage_counters;
CREATE TRIGGER bound_usage_alerts BEFORE INSERT ON tenancy.usage_counters
    FOR EACH ROW EXECUTE FUNCTION tenancy.bound_usage_alerts();
CREATE TRIGGER rebound_usage_alerts
    AFTER UPDATE OF limit_value, override_value, override_until, alert_level ON tenancy.usage_counters
    FOR EACH ROW EXECUTE FUNCTION tenancy.bound_usage_alerts();

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
    decision record;
    fits     boolean := false;
    period   timestamptz;
    occurred timestamptz := coalesce(p_at, now());
BEGIN
    IF tenancy.current_tenant_id() IS DISTINCT FROM p_tenant OR p_tenant IS NULL THEN
        RAISE EXCEPTION 'usage of tenant % can only be tracked in its own context', p_tenant
            USING ERRCODE = 'insufficient_privilege', HINT = 'set app.current_tenant_id to the tenant in this transaction';
    END IF;
    IF p_environment IS NOT NULL AND NOT pg_has_role(session_user, tenancy.role_name('owner'), 'MEMBER') THEN
        RAISE EXCEPTION 'only an operator may stand in for a plan''s limit' USING ERRCODE = 'insufficient_privilege';
    END IF;

    -- As usage_epoch does: from here on no key can be recorded in an older epoch. PERFORM would make a query of it.
    IF pg_advisory_xact_lock_shared(1952804449, 1) IS NULL THEN
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM tenancy.usage_epoch();
    END IF;
    -- room is whether it surely fits, as far as can be told without a lock: a sum within a limit that no override replaces.
    SELECT m.source, m.kind, m.aggregation, t.status, p.start AS period, n.epoch,
           CASE WHEN p_amount > 0 AND p_environment IS NULL AND m.aggregation = 'sum' AND c.override_until IS NULL
                THEN c.used <= coalesce(c.limit_value, 9223372036854775807) - p_amount END AS room,
           e.metric, e.amount, e.used, e.limit_value, e.period_start
      INTO about
      FROM tenancy.metrics m
      LEFT JOIN tenancy.tenants t ON t.id = p_tenant
     CROSS JOIN LATERAL (SELECT CASE WHEN isfinite(occurred)
                                     THEN tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), occurred) END AS start) p
      LEFT JOIN tenancy.usage_counters c ON c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p.start
     CROSS JOIN LATERAL (SELECT n.epoch FROM tenancy.usage_epochs n ORDER BY n.epoch DESC LIMIT 1) n
      LEFT JOIN LATERAL (SELECT e.metric, e.amount, e.used, e.limit_value, e.period_start FROM tenancy.usage_events e
                          WHERE e.tenant_id = p_tenant AND e.key = p_key LIMIT 1) e ON true
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
    period := about.period;
    IF about.metric IS NULL THEN
        IF about.room THEN
            -- Whoever waits for a row that others wait for, too, is woken for each of its versions, and all of them at once. This
            -- lock wakes one at a time. Only what would be a transaction's first write takes it, and makes it one by asking for
            -- its number: so that no transaction takes two, however much it tracks, and no row is locked meanwhile. What is
            -- counted does not rest on it.
            IF pg_current_xact_id_if_assigned() IS NULL
               AND (pg_advisory_xact_lock(uuid_hash_extended(p_tenant, hashtextextended(p_metric, 0))) IS NULL
                    OR pg_current_xact_id() IS NULL) THEN
            END IF;
            UPDATE tenancy.usage_counters c SET used = c.used + p_amount, updated_at = now()
             WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = period
               AND c.override_until IS NULL AND c.used <= coalesce(c.limit_value, 9223372036854775807) - p_amount
            RETURNING true AS admitted, c.used, c.limit_value, false AS soft, c.used - p_amount AS previous INTO decision;
            fits := FOUND;
        END IF;
        -- Whatever else there is to say, admit_usage says.
        IF NOT fits THEN
            decision := tenancy.admit_usage(p_tenant, p_metric, p_amount, period, p_environment, about.aggregation);
        END IF;
        amount := p_amount;
        used := decision.used;
        limit_value := decision.limit_value;
        period_start := period;
        IF decision.admitted THEN
            -- Whoever begins to meter it locks all its counters: we have ours, and look again.
            INSERT INTO tenancy.usage_events (epoch, tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
            SELECT about.epoch, p_tenant, p_metric, p_amount, p_key, occurred, period, decision.used, decision.limit_value
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
             WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = period;
        END IF;
        SELECT e.metric, e.amount, e.used, e.limit_value, e.period_start
          INTO about.metric, about.amount, about.used, about.limit_value, about.period_start
          FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key;
        IF NOT FOUND THEN
            outcome := 'rejected';
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;

    IF about.metric <> p_metric OR about.amount <> p_amount THEN
        RAISE EXCEPTION 'key % was used for % of %', quote_literal(p_key), about.amount, about.metric
            USING ERRCODE = 'TN006';
    END IF;
    outcome := 'duplicate';
    amount := about.amount;
    used := about.used;
    limit_value := about.limit_value;
    period_start := about.period_start;
    RETURN NEXT;
END $$;
