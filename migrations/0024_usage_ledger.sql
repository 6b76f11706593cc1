-- The ledger in epochs, so that old usage goes by dropping a table.

-- An epoch is a partition of the ledger. Usage is recorded in the newest; `usage prune` opens the next, and drops those that
-- are out of the retention. A key is unique within its partition, and whoever records usage looks for it in all of them: so
-- that nobody is still recording in an older one meanwhile, everybody holds a lock in share mode until its transaction
-- ends, and who opens an epoch takes it alone.
CREATE TABLE tenancy.usage_epochs (
    epoch     int PRIMARY KEY,
    opened_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenancy.usage_epochs IS 'Partitions of the usage ledger, oldest first';
INSERT INTO tenancy.usage_epochs VALUES (1);

-- The epoch to record in, which stays the newest until the transaction ends.
CREATE FUNCTION tenancy.usage_epoch() RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest int;
BEGIN
    -- "tena", and the first lock of ours that is in this form.
    PERFORM pg_advisory_xact_lock_shared(1952804449, 1);
    SELECT max(e.epoch) INTO newest FROM tenancy.usage_epochs e;
    -- A snapshot older than the epoch sees not all that was recorded in the one before. The names of tables are looked up
    -- as they are now, whatever the snapshot.
    IF current_setting('transaction_isolation') <> 'read committed'
       AND to_regclass('tenancy.usage_events_' || newest + 1) IS NOT NULL THEN
        RAISE EXCEPTION 'a new epoch of the usage ledger was opened since this transaction began'
            USING ERRCODE = 'serialization_failure', HINT = 'run the transaction again';
    END IF;
    RETURN newest;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.usage_epoch FROM PUBLIC;

ALTER TABLE tenancy.usage_events RENAME TO usage_events_before;
ALTER INDEX tenancy.usage_events_tenant_id_key_key RENAME TO usage_events_before_key;
-- No foreign keys: they would cost more than all the rest. The counter has them, no event is written without it, and what
-- goes with a tenant is removed below.
CREATE TABLE tenancy.usage_events (
    epoch        int NOT NULL DEFAULT tenancy.usage_epoch(),
    tenant_id    uuid NOT NULL,
    metric       text NOT NULL,
    amount       bigint NOT NULL,
    key          text COLLATE "C" CHECK (octet_length(key) BETWEEN 1 AND 1024),
    occurred_at  timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    -- The answer that was given, for whoever asks again with the same key.
    period_start timestamptz NOT NULL,
    used         bigint NOT NULL,
    limit_value  bigint,
    UNIQUE (tenant_id, key, epoch)
) PARTITION BY LIST (epoch);
COMMENT ON TABLE tenancy.usage_events IS 'Ledger of admitted usage; its key makes a replay harmless';
CALL tenancy.isolate('tenancy.usage_events', 'tenant_id = (SELECT tenancy.current_tenant_id())');
CREATE TABLE tenancy.usage_events_1 PARTITION OF tenancy.usage_events FOR VALUES IN (1);
-- Nobody reads or writes a partition but through the ledger.
ALTER TABLE tenancy.usage_events_1 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
INSERT INTO tenancy.usage_events (epoch, tenant_id, metric, amount, key, occurred_at, recorded_at, period_start, used, limit_value)
SELECT 1, e.tenant_id, e.metric, e.amount, e.key, e.occurred_at, e.recorded_at, e.period_start, e.used, e.limit_value
  FROM tenancy.usage_events_before e;
DROP TABLE tenancy.usage_events_before;

-- What was used by day of UTC where the ledger does not say it: of events that were pruned.
CREATE TABLE tenancy.usage_days (
    tenant_id uuid NOT NULL REFERENCES tenancy.tenants ON DELETE CASCADE,
    metric    text NOT NULL REFERENCES tenancy.metrics ON UPDATE CASCADE ON DELETE CASCADE,
    day       date NOT NULL,
    -- Their sum, or the largest where that is what the metric counts.
    amount    bigint NOT NULL,
    events    bigint NOT NULL CHECK (events > 0),
    PRIMARY KEY (tenant_id, metric, day)
);
COMMENT ON TABLE tenancy.usage_days IS 'Usage by day that is no longer, or never was, in the ledger event by event';
CREATE INDEX usage_days_metric ON tenancy.usage_days (metric);
CALL tenancy.isolate('tenancy.usage_days', 'tenant_id = (SELECT tenancy.current_tenant_id())');

CREATE FUNCTION tenancy.forget_usage() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM tenancy.usage_events e USING gone WHERE e.tenant_id = gone.id;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.forget_usage FROM PUBLIC;
CREATE TRIGGER forget_usage AFTER DELETE ON tenancy.tenants REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION tenancy.forget_usage();

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
    current  int;
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

    -- From here on no key can be recorded in an older epoch.
    current := tenancy.usage_epoch();
    IF p_key IS NOT NULL THEN
        SELECT * INTO earlier FROM tenancy.usage_events e WHERE e.tenant_id = p_tenant AND e.key = p_key;
    END IF;
    IF earlier.tenant_id IS NULL THEN
        period := tenancy.usage_period(metric.reset, coalesce(tenant.anchor_day, metric.anchor_day), occurred);
        SELECT * INTO decision
          FROM tenancy.admit_usage(p_tenant, p_metric, p_amount, period, p_environment, metric.aggregation);
        IF decision.admitted THEN
            INSERT INTO tenancy.usage_events (epoch, tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
            VALUES (current, p_tenant, p_metric, p_amount, p_key, occurred, period, decision.used, decision.limit_value)
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
        IF earlier.tenant_id IS NULL THEN
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
