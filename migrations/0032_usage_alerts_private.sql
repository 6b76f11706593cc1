-- Alerts that tell nobody about the tenants of others, and reconciling that one sick meter does not keep from all else.

-- As before, but for what it tells: anybody may listen on a channel, so that a notification is no more than the id of the
-- alert, which the policies show to whom it concerns.
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
    -- The bounds follow it, and with them this trigger has no reason to fire again.
    UPDATE tenancy.usage_counters c SET alert_level = level
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

-- Its days and months are those of UTC, and not of the session.
ALTER FUNCTION tenancy.usage_recorded(uuid, text) SET timezone TO 'UTC';

-- What the metered tables of a gauge, or of all, hold by tenant. A table that cannot be read says why instead.
CREATE FUNCTION tenancy.meter_readings(p_metric text)
RETURNS TABLE (metric text, table_name text, tenant uuid, amount numeric, failure text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    meter   record;
    tenants uuid[];
    amounts numeric[];
BEGIN
    FOR meter IN
        SELECT u.metric, u.relation, u.tenant_column, u.sum_column
          FROM tenancy.usage_meters u
          JOIN tenancy.metrics m ON m.key = u.metric AND m.source = 'meter' AND m.kind = 'gauge'
          JOIN pg_class c ON c.oid = u.relation
         WHERE (p_metric IS NULL OR u.metric = p_metric)
               -- What became a part of another metered table is read with that.
           AND NOT EXISTS (SELECT FROM tenancy.usage_meters o
                            WHERE o.metric = u.metric AND o.relation <> u.relation
                              AND u.relation IN (SELECT tenancy.meter_family(o.relation)))
         ORDER BY u.metric, u.relation
    LOOP
        BEGIN
            SELECT array_agg(r.tenant), array_agg(r.amount) INTO tenants, amounts
              FROM tenancy.meter_reading(meter.relation, meter.tenant_column, meter.sum_column) r;
        EXCEPTION WHEN OTHERS THEN
            -- Who may not read it, and what lies in the moment or the server, says nothing about the table.
            IF SQLSTATE IN ('42501', '55P03', 'TN010') OR left(SQLSTATE, 2) IN ('40', '53', '57') THEN
                RAISE;
            END IF;
            RETURN QUERY SELECT meter.metric, meter.relation::text, NULL::uuid, NULL::numeric, SQLERRM;
            CONTINUE;
        END;
        RETURN QUERY SELECT meter.metric, meter.relation::text, x.tenant, x.amount, NULL::text
                       FROM unnest(tenants, amounts) x (tenant, amount);
    END LOOP;
END $$;

-- As before, and with a row without a tenant for each meter that cannot be read: why, and how many counters of its metric
-- are not compared for that. A counter holds no more than a bigint does, whatever a table holds.
DROP FUNCTION tenancy.usage_drift(uuid, text);
CREATE FUNCTION tenancy.usage_drift(p_tenant uuid, p_metric text)
RETURNS TABLE (tenant_id uuid, metric text, period_start timestamptz, counted bigint, actual bigint, lacking bigint, basis text,
               table_name text, failure text, counters bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH metric AS (
        SELECT m.key, CASE WHEN m.source = 'memberships' THEN 'memberships'
                           WHEN m.source = 'meter' AND m.kind = 'gauge' THEN 'tables' ELSE 'history' END AS basis
          FROM tenancy.metrics m
         WHERE p_metric IS NULL OR m.key = p_metric
    ), reading AS MATERIALIZED (
        SELECT r.metric, r.table_name, r.tenant, r.amount, r.failure FROM tenancy.meter_readings(p_metric) r
    ), failed AS MATERIALIZED (
        -- Few, unlike the readings.
        SELECT r.metric, r.table_name, r.failure FROM reading r WHERE r.failure IS NOT NULL
    ), truth AS (
        SELECT r.tenant, r.metric, '-infinity'::timestamptz AS period, greatest(sum(r.amount), 0) AS amount
          FROM reading r
         WHERE (p_tenant IS NULL OR r.tenant = p_tenant) AND EXISTS (SELECT FROM tenancy.tenants t WHERE t.id = r.tenant)
         GROUP BY 1, 2
         UNION ALL
        SELECT a.tenant_id, m.key, '-infinity', count(*)
          FROM metric m JOIN tenancy.memberships a ON a.role = 'admin' AND (p_tenant IS NULL OR a.tenant_id = p_tenant)
         WHERE m.basis = 'memberships'
         GROUP BY 1, 2
         UNION ALL
        SELECT r.tenant_id, r.metric, r.period_start, greatest(r.amount, 0)
          FROM metric m JOIN tenancy.usage_recorded(p_tenant, p_metric) r ON r.metric = m.key AND r.amount IS NOT NULL
         WHERE m.basis = 'history'
    ), compared AS (
        SELECT coalesce(c.tenant_id, t.tenant) AS tenant, m.key, coalesce(c.period_start, t.period) AS period,
               coalesce(c.used, 0) AS counted, least(coalesce(t.amount, 0), 9223372036854775807) AS actual, m.basis
          FROM (SELECT c.* FROM tenancy.usage_counters c WHERE p_tenant IS NULL OR c.tenant_id = p_tenant) c
          FULL JOIN truth t ON t.tenant = c.tenant_id AND t.metric = c.metric AND t.period = c.period_start
          JOIN metric m ON m.key = coalesce(c.metric, t.metric)
         -- Without a truth there is nothing to compare: a history that cannot be told, or a meter whose tables are gone or
         -- cannot all be read.
         WHERE (t.tenant IS NOT NULL OR m.basis = 'memberships'
                OR (m.basis = 'tables' AND EXISTS (SELECT FROM tenancy.usage_meters u JOIN pg_class k ON k.oid = u.relation
                                                    WHERE u.metric = m.key)))
           AND NOT EXISTS (SELECT FROM failed f WHERE f.metric = m.key)
    )
    SELECT c.tenant, c.key, c.period, c.counted, c.actual::bigint,
           least(greatest(CASE c.basis
               WHEN 'history' THEN 0
               WHEN 'memberships' THEN c.actual - c.counted
               ELSE c.actual - coalesce((SELECT r.amount FROM tenancy.usage_recorded(c.tenant, c.key) r WHERE r.period_start = c.period), 0)
           END, -9223372036854775807), 9223372036854775807)::bigint, c.basis, NULL, NULL, 0
      FROM compared c
     WHERE c.counted <> c.actual
     UNION ALL
    SELECT NULL, f.metric, NULL, 0, 0, 0, 'tables', f.table_name, f.failure, coalesce(n.counters, 0)
      FROM failed f
      LEFT JOIN (SELECT c.metric, count(*) AS counters FROM tenancy.usage_counters c
                  WHERE (p_tenant IS NULL OR c.tenant_id = p_tenant) AND c.metric IN (SELECT f.metric FROM failed f)
                  GROUP BY 1) n ON n.metric = f.metric
     ORDER BY 1, 2, 3
$$;
REVOKE EXECUTE ON FUNCTION tenancy.meter_readings, tenancy.usage_drift FROM PUBLIC;
