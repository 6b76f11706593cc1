-- Thresholds of limits: each is recorded once when use reaches it, whatever the way by which it does.

ALTER TABLE tenancy.usage_counters
    -- The highest threshold that is reached, in percent of the limit in force; 0 for none.
    ADD COLUMN alert_level smallint NOT NULL DEFAULT 0,
    -- Where use stays within these, nothing is crossed: below the next threshold, and not below the one that is reached. NULL
    -- for no bound.
    ADD COLUMN alert_at bigint,
    ADD COLUMN alert_below bigint,
    -- When the override that they go by expires.
    ADD COLUMN alert_until timestamptz;

-- The key is the counter's: whoever crosses a threshold has locked that anyway, so that no deadlock can come from it.
CREATE TABLE tenancy.usage_alerts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    metric       text NOT NULL,
    period_start timestamptz NOT NULL,
    -- In percent.
    threshold    smallint NOT NULL CHECK (threshold BETWEEN 1 AND 100),
    used         bigint NOT NULL,
    limit_value  bigint NOT NULL,
    crossed_at   timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, metric, period_start) REFERENCES tenancy.usage_counters ON UPDATE CASCADE ON DELETE CASCADE
);
COMMENT ON TABLE tenancy.usage_alerts IS 'Thresholds of limits that use reached, once for each time that it did';
CREATE INDEX usage_alerts_counter ON tenancy.usage_alerts (tenant_id, metric, period_start);
CREATE INDEX usage_alerts_crossed_at ON tenancy.usage_alerts (crossed_at);
CALL tenancy.isolate('tenancy.usage_alerts', 'tenant_id = (SELECT tenancy.current_tenant_id())');

-- What has to be used for so many percent of a limit, rounded up; NULL where there is no limit, or one of zero.
CREATE FUNCTION tenancy.usage_threshold(p_limit bigint, p_percent int) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- By its complement, in parts: no product is larger than a limit can be.
    RETURN CASE WHEN p_limit > 0
                THEN p_limit - (p_limit / 100 * (100 - p_percent) + p_limit % 100 * (100 - p_percent) / 100) END;

-- The highest threshold that use has reached.
CREATE FUNCTION tenancy.usage_level(p_used bigint, p_limit bigint) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN p_used >= tenancy.usage_threshold(p_limit, 100) THEN 100
                WHEN p_used >= tenancy.usage_threshold(p_limit, 90) THEN 90
                WHEN p_used >= tenancy.usage_threshold(p_limit, 80) THEN 80
                ELSE 0 END::smallint;
REVOKE EXECUTE ON FUNCTION tenancy.usage_threshold, tenancy.usage_level FROM PUBLIC;

-- Keeps the bounds in line with the level and the limit in force.
CREATE FUNCTION tenancy.bound_usage_alerts() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    most CONSTANT bigint := (tenancy.limit_in_force(NEW.limit_value, NEW.soft, NEW.override_value, NEW.override_soft,
                                                    NEW.override_until, NULL)).limit_value;
BEGIN
    IF coalesce(most, 0) = 0 THEN
        NEW.alert_level := 0;
    END IF;
    NEW.alert_at := tenancy.usage_threshold(most, CASE NEW.alert_level WHEN 0 THEN 80 WHEN 80 THEN 90 WHEN 90 THEN 100 END);
    NEW.alert_below := tenancy.usage_threshold(most, nullif(NEW.alert_level, 0));
    NEW.alert_until := CASE WHEN NEW.override_until > now() THEN NEW.override_until END;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.bound_usage_alerts FROM PUBLIC;
CREATE TRIGGER bound_usage_alerts
    BEFORE INSERT OR UPDATE OF limit_value, override_value, override_until, alert_level ON tenancy.usage_counters
    FOR EACH ROW EXECUTE FUNCTION tenancy.bound_usage_alerts();

-- What is used already is no news: counters begin at the level that they have.
UPDATE tenancy.usage_counters c
   SET alert_level = tenancy.usage_level(c.used, (tenancy.limit_in_force(
           c.limit_value, c.soft, c.override_value, c.override_soft, c.override_until, NULL)).limit_value);

-- Records the thresholds that were crossed, and tells whoever listens on tenancy_usage. It decides by the counter as it is
-- when the transaction ends: what was taken and given back within it has crossed nothing, and of many crossings by one
-- transaction only the first finds something to do. By then the transaction runs as anybody.
CREATE FUNCTION tenancy.record_usage_alerts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    counter tenancy.usage_counters;
    most    bigint;
    level   smallint;
    reached smallint;
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
    -- The bounds follow it, and with them this trigger has no reason to fire again.
    UPDATE tenancy.usage_counters c SET alert_level = level
     WHERE c.tenant_id = NEW.tenant_id AND c.metric = NEW.metric AND c.period_start = NEW.period_start;
    FOREACH reached IN ARRAY ARRAY[80, 90, 100] LOOP
        CONTINUE WHEN reached <= counter.alert_level OR reached > level;
        INSERT INTO tenancy.usage_alerts (tenant_id, metric, period_start, threshold, used, limit_value)
        VALUES (counter.tenant_id, counter.metric, counter.period_start, reached, counter.used, most);
        PERFORM pg_notify('tenancy_usage', json_build_object('tenant_id', counter.tenant_id, 'metric', counter.metric,
                              'threshold', reached, 'used', counter.used, 'limit', most)::text);
    END LOOP;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.record_usage_alerts FROM PUBLIC;
-- The condition is looked at with each row that is written, and nothing else is done where it does not hold.
CREATE CONSTRAINT TRIGGER record_usage_alerts AFTER INSERT OR UPDATE ON tenancy.usage_counters
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.used >= NEW.alert_at OR NEW.used < NEW.alert_below OR NEW.alert_until <= now())
    EXECUTE FUNCTION tenancy.record_usage_alerts();
