-- A call in less time again, and changes of limits that write each counter once.

-- The bounds of a counter's alerts, by the level that it has reached and the limit in force; without a limit, or with one of
-- zero, there is no level.
CREATE FUNCTION tenancy.alert_bounds(p_level smallint, p_limit bigint, p_override bigint, p_override_until timestamptz)
RETURNS TABLE (alert_level smallint, alert_at bigint, alert_below bigint, alert_until timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT l.level, tenancy.usage_threshold(l.most, CASE l.level WHEN 0 THEN 80 WHEN 80 THEN 90 WHEN 90 THEN 100 END),
           tenancy.usage_threshold(l.most, nullif(l.level, 0::smallint)), CASE WHEN p_override_until > now() THEN p_override_until END
      FROM (SELECT i.most, CASE WHEN coalesce(i.most, 0) = 0 THEN 0::smallint ELSE p_level END AS level
              FROM (SELECT (tenancy.limit_in_force(p_limit, false, p_override, false, p_override_until, NULL)).limit_value AS most) i
            OFFSET 0) l;
END;
REVOKE EXECUTE ON FUNCTION tenancy.alert_bounds FROM PUBLIC;

-- Sets the bounds of a new counter, and of one whose limit or level was changed by somebody who has not.
CREATE OR REPLACE FUNCTION tenancy.bound_usage_alerts() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    bound record;
BEGIN
    SELECT * INTO bound FROM tenancy.alert_bounds(NEW.alert_level, NEW.limit_value, NEW.override_value, NEW.override_until);
    IF TG_OP = 'UPDATE' AND (bound.alert_level, bound.alert_at, bound.alert_below, bound.alert_until)
                            IS DISTINCT FROM (NEW.alert_level, NEW.alert_at, NEW.alert_below, NEW.alert_until) THEN
        UPDATE tenancy.usage_counters c
           SET alert_level = bound.alert_level, alert_at = bound.alert_at, alert_below = bound.alert_below,
               alert_until = bound.alert_until
         WHERE c.tenant_id = NEW.tenant_id AND c.metric = NEW.metric AND c.period_start = NEW.period_start;
    END IF;
    NEW.alert_level := bound.alert_level;
    NEW.alert_at := bound.alert_at;
    NEW.alert_below := bound.alert_below;
    NEW.alert_until := bound.alert_until;
    RETURN NEW;
END $$;
DROP TRIGGER rebound_usage_alerts ON tenancy.usage_counters;
CREATE TRIGGER rebound_usage_alerts
    AFTER UPDATE OF limit_value, override_value, override_until, alert_level ON tenancy.usage_counters FOR EACH ROW
    WHEN ((OLD.alert_at, OLD.alert_below, OLD.alert_until) IS NOT DISTINCT FROM (NEW.alert_at, NEW.alert_below, NEW.alert_until))
    EXECUTE FUNCTION tenancy.bound_usage_alerts();

-- As before, but for the bounds.
CREATE OR REPLACE FUNCTION tenancy.record_usage_alerts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counter tenancy.usage_counters;
    most    bigint;
    level   smallint;
    reached smallint;
    alert   bigint;
BEGIN
    SELECT c.* INTO counter FROM tenancy.usage_counters c
     WHERE c.tenant_id = NEW.tenant_id AND c.metric = NEW.metric AND c.period_start = NEW.period_start;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    most := (tenancy.limit_in_force(counter.limit_value, counter.soft, counter.override_value, counter.override_soft,
                                    counter.override_until, NULL)).limit_value;
    level := tenancy.usage_level(counter.used, most);
    IF level = counter.alert_level AND (counter.alert_until > now()) IS NOT FALSE THEN
        RETURN NULL;
    END IF;
    -- With the bounds that go by it this trigger has no reason to fire again.
    UPDATE tenancy.usage_counters c
       SET (alert_level, alert_at, alert_below, alert_until) =
           (SELECT b.* FROM tenancy.alert_bounds(level, c.limit_value, c.override_value, c.override_until) b)
     WHERE c.tenant_id = NEW.tenant_id AND c.metric = NEW.metric AND c.period_start = NEW.period_start;
    FOREACH reached IN ARRAY ARRAY[80, 90, 100] LOOP
        CONTINUE WHEN reached <= counter.alert_level OR reached > level;
        INSERT INTO tenancy.usage_alerts (tenant_id, metric, period_start, threshold, used, limit_value)
        VALUES (counter.tenant_id, counter.metric, counter.period_start, reached, counter.used, most)
        RETURNING id INTO alert;
        PERFORM pg_notify('tenancy_usage', alert::text);
    END LOOP;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION tenancy.refresh_limits(p_tenant uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tenancy.read_plan_limits();
    -- In the order in which everything locks several counters.
    PERFORM FROM tenancy.usage_counters c WHERE c.tenant_id = p_tenant
      ORDER BY c.tenant_id, c.metric, c.period_start FOR NO KEY UPDATE;
    UPDATE tenancy.usage_counters c
       SET limit_value = v.limit_value, soft = v.soft, override_value = v.override_value,
           override_soft = v.override_soft, override_until = v.override_until,
           (alert_level, alert_at, alert_below, alert_until) =
           (SELECT b.* FROM tenancy.alert_bounds(c.alert_level, v.limit_value, v.override_value, v.override_until) b)
      FROM tenancy.limit_layers v
     WHERE c.tenant_id = p_tenant AND v.tenant_id = p_tenant AND v.metric = c.metric
       AND (c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until)
           IS DISTINCT FROM (v.limit_value, v.soft, v.override_value, v.override_soft, v.override_until);
END $$;
CREATE OR REPLACE FUNCTION tenancy.refresh_plan_limits(p_plans text[], p_metrics text[]) RETURNS bigint LANGUAGE plpgsql AS $$
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
       SET limit_value = v.limit_value, soft = v.soft,
           (alert_level, alert_at, alert_below, alert_until) =
           (SELECT b.* FROM tenancy.alert_bounds(c.alert_level, v.limit_value, c.override_value, c.override_until) b)
      FROM tenancy.limit_layers v
     WHERE v.tenant_id = c.tenant_id AND v.metric = c.metric
       AND (v.plan = ANY (p_plans) OR v.metric = ANY (p_metrics))
       AND (c.limit_value, c.soft) IS DISTINCT FROM (v.limit_value, v.soft);
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;

-- As usage_period, for one call: what it does not need, it does not set up, and a metric that is never reset needs nothing.
CREATE FUNCTION tenancy.call_period(p_reset text, p_anchor_day smallint, p_at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_reset = 'monthly' THEN
        RETURN tenancy.usage_period('monthly', p_anchor_day, p_at);
    ELSIF p_reset = 'daily' THEN
        RETURN tenancy.usage_period('daily', p_anchor_day, p_at);
    END IF;
    RETURN tenancy.usage_period('never', p_anchor_day, p_at);
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.call_period FROM PUBLIC;

-- Records usage for the tenant in context, if its limit allows it. Any language calls this as the application role:
--   SELECT * FROM tenancy.track_usage(tenant, 'events', 1, 'import-2026-11');
-- outcome is accepted, over_soft_limit (accepted, too, and over a limit that is soft), duplicate (the key was seen
-- before; the first answer is returned) or rejected (nothing is counted).
CREATE OR REPLACE FUNCTION tenancy.track_usage(
    p_tenant uuid, p_metric text, p_amount bigint DEFAULT 1, p_key text DEFAULT NULL,
    p_at timestamptz DEFAULT NULL, p_environment bigint DEFAULT NULL)
RETURNS TABLE (outcome text, amount bigint, used bigint, limit_value bigint, period_start timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    about    record;
    earlier  record;
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
    SELECT m.source, m.kind, m.aggregation, t.status, p.start AS period,
           (SELECT n.epoch FROM tenancy.usage_epochs n ORDER BY n.epoch DESC LIMIT 1) AS epoch,
           EXISTS (SELECT FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key) AS seen,
           CASE WHEN p_amount > 0 AND p_environment IS NULL AND m.aggregation = 'sum'
                THEN (SELECT c.override_until IS NULL AND c.used <= coalesce(c.limit_value, 9223372036854775807) - p_amount
                        FROM tenancy.usage_counters c
                       WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p.start) END AS room
      INTO about
      FROM tenancy.metrics m
      LEFT JOIN tenancy.tenants t ON t.id = p_tenant
     CROSS JOIN LATERAL (SELECT CASE WHEN isfinite(occurred)
                                     THEN tenancy.call_period(m.reset, coalesce(t.anchor_day, m.anchor_day), occurred) END AS start
                         OFFSET 0) p
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
    IF NOT about.seen THEN
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
    END IF;

    SELECT e.metric, e.amount, e.used, e.limit_value, e.period_start INTO earlier
      FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key;
    IF NOT FOUND THEN
        outcome := 'rejected';
    ELSIF earlier.metric <> p_metric OR earlier.amount <> p_amount THEN
        RAISE EXCEPTION 'key % was used for % of %', quote_literal(p_key), earlier.amount, earlier.metric
            USING ERRCODE = 'TN006';
    ELSE
        outcome := 'duplicate';
        amount := earlier.amount;
        used := earlier.used;
        limit_value := earlier.limit_value;
        period_start := earlier.period_start;
    END IF;
    RETURN NEXT;
END $$;

-- Plans are kept as long as the connection: one that was made while the ledger was known to be empty must not read it through
-- when it no longer is. So it is with track_usage.
ALTER FUNCTION tenancy.reserve_usage SET enable_seqscan = off;
ALTER FUNCTION tenancy.commit_usage SET enable_seqscan = off;
ALTER FUNCTION tenancy.release_usage SET enable_seqscan = off;
