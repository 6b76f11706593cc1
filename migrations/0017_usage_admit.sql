-- Admission, decided again where the counter moved between the refusal and the look at it.

-- Whether an amount fits a counter: a release finds that much to give back, an addition stays within the limit.
-- p_environment is a limit from the caller's environment that stands in for the plan's: NULL for none, -1 unlimited.
CREATE FUNCTION tenancy.usage_fits(p_used bigint, p_limit bigint, p_amount bigint, p_environment bigint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN p_amount < 0 THEN p_used >= -p_amount
                ELSE p_used <= coalesce(CASE WHEN p_environment <> -1 THEN p_environment WHEN p_environment IS NULL THEN p_limit END,
                                        9223372036854775807) - p_amount END;
REVOKE EXECUTE ON FUNCTION tenancy.usage_fits FROM PUBLIC;

-- Adds an amount to a counter if it fits. The check is a predicate on the row that is updated: PostgreSQL evaluates it
-- again on the newest version after waiting for a concurrent update, so no interleaving admits too much.
CREATE OR REPLACE FUNCTION tenancy.admit_usage(
    p_tenant uuid, p_metric text, p_amount bigint, p_period timestamptz, p_environment bigint,
    OUT admitted boolean, OUT used bigint, OUT limit_value bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    LOOP
        UPDATE tenancy.usage_counters c
           SET used = c.used + p_amount, updated_at = now()
         WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period
           AND tenancy.usage_fits(c.used, c.limit_value, p_amount, p_environment)
        RETURNING c.used, c.limit_value INTO used, limit_value;
        admitted := FOUND;
        EXIT WHEN admitted;

        -- Each statement sees what was committed before it: this one may see a counter that was not there a moment ago,
        -- or one that somebody released. Refused is only what does not fit the figures that the answer gives.
        SELECT c.used, c.limit_value INTO used, limit_value FROM tenancy.usage_counters c
         WHERE c.tenant_id = p_tenant AND c.metric = p_metric AND c.period_start = p_period;
        IF FOUND THEN
            EXIT WHEN NOT tenancy.usage_fits(used, limit_value, p_amount, p_environment);
            CONTINUE;
        END IF;

        -- The first use in a period. The lock on the tenant makes a concurrent change of plan wait, or us for it, so
        -- that the new counter cannot miss the new limit.
        PERFORM FROM tenancy.tenants t WHERE t.id = p_tenant FOR SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no tenant %', p_tenant USING ERRCODE = 'TN004';
        END IF;
        INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start, limit_value)
        SELECT p_tenant, p_metric, p_period,
               (SELECT l.limit_value FROM tenancy.plan_limits l WHERE l.plan = t.plan AND l.metric = p_metric)
          FROM tenancy.tenants t WHERE t.id = p_tenant
        ON CONFLICT DO NOTHING;
    END LOOP;
    limit_value := CASE WHEN p_environment = -1 THEN NULL ELSE coalesce(p_environment, limit_value) END;
END $$;
