-- Usage that is counted from the platform's own tables, where no code path can forget to report it.

ALTER TABLE tenancy.metrics
    DROP CONSTRAINT metrics_source_check,
    -- meter: triggers on the platform's tables count it.
    ADD CONSTRAINT metrics_source_check CHECK (source IN ('reported', 'memberships', 'meter'));

CREATE TABLE tenancy.usage_meters (
    metric        text NOT NULL REFERENCES tenancy.metrics ON UPDATE CASCADE ON DELETE CASCADE,
    relation      regclass NOT NULL,
    -- What it was called, for when it is gone.
    table_name    text NOT NULL,
    tenant_column text NOT NULL,
    -- What is summed; NULL where rows are counted.
    sum_column    text,
    attached_at   timestamptz NOT NULL DEFAULT now(),
    attached_by   text NOT NULL DEFAULT session_user,
    PRIMARY KEY (metric, relation)
);
COMMENT ON TABLE tenancy.usage_meters IS 'Tables that metrics are counted from, by triggers on them';
CREATE INDEX usage_meters_relation ON tenancy.usage_meters (relation);

-- What was put right about counters. The ledger, usage_days and these amounts add up to what a counter holds: an amount is
-- what the history lacked, which is nothing where the counter alone was wrong.
CREATE TABLE tenancy.usage_corrections (
    tenant_id    uuid NOT NULL REFERENCES tenancy.tenants ON DELETE CASCADE,
    metric       text NOT NULL REFERENCES tenancy.metrics ON UPDATE CASCADE ON DELETE CASCADE,
    period_start timestamptz NOT NULL,
    amount       bigint NOT NULL,
    -- What the counter held.
    before       bigint NOT NULL,
    after        bigint NOT NULL,
    actor        text NOT NULL DEFAULT session_user,
    at           timestamptz NOT NULL DEFAULT now(),
    reason       text NOT NULL CHECK (reason <> '')
);
COMMENT ON TABLE tenancy.usage_corrections IS 'What was put right about counters, and why';
CREATE INDEX usage_corrections_key ON tenancy.usage_corrections (tenant_id, metric, period_start);
CREATE INDEX usage_corrections_metric ON tenancy.usage_corrections (metric);
CALL tenancy.isolate('tenancy.usage_corrections', 'tenant_id = (SELECT tenancy.current_tenant_id())');

-- A table with its partitions and children: a statement fires the triggers of the table that it names, and of no other.
CREATE FUNCTION tenancy.meter_family(p_relation regclass) RETURNS SETOF oid
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE family AS (
        SELECT p_relation::oid AS relation
         UNION
        SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.relation
    )
    SELECT relation FROM family
$$;

-- The statement that says, from the rows a statement changed, by how much each meter of a table moves, in the order in
-- which counters are locked; NULL where there is no such meter.
CREATE FUNCTION tenancy.meter_query(p_relation oid, p_op text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- In plpgsql, which keeps the plan.
    RETURN (WITH RECURSIVE above AS (
        SELECT p_relation AS relation
         UNION
        SELECT i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.relation
    ), meter AS (
        SELECT m.metric, m.tenant_column, k.kind = 'counter' AS grows,
               CASE WHEN m.sum_column IS NULL THEN 'count(*)::numeric'
                    ELSE format('sum(%I::bigint)', m.sum_column) END AS amount
          FROM tenancy.usage_meters m JOIN tenancy.metrics k ON k.key = m.metric
         WHERE m.relation IN (SELECT a.relation FROM above a)
    )
    SELECT 'SELECT array_agg(d.tenant ORDER BY d.tenant, d.metric), array_agg(d.metric ORDER BY d.tenant, d.metric),'
           || ' array_agg(d.amount ORDER BY d.tenant, d.metric) FROM (SELECT r.tenant, r.metric, sum(r.amount) AS amount FROM ('
           || string_agg(CASE p_op
                  WHEN 'INSERT' THEN format('SELECT %I::uuid AS tenant, %L::text AS metric, %s AS amount FROM added GROUP BY 1',
                                            tenant_column, metric, amount)
                  WHEN 'DELETE' THEN format('SELECT %I::uuid AS tenant, %L::text AS metric, -%s AS amount FROM gone GROUP BY 1',
                                            tenant_column, metric, amount)
                  -- What only grows takes nothing back: neither from a tenant that lost rows, nor where a sum became less.
                  ELSE format('SELECT u.tenant, %2$L::text AS metric, sum(u.amount) AS amount FROM ('
                              'SELECT %1$I::uuid AS tenant, %3$s AS amount FROM added GROUP BY 1 UNION ALL '
                              'SELECT %1$I::uuid, -%3$s FROM gone GROUP BY 1) u GROUP BY 1',
                              tenant_column, metric, amount)
                  END || CASE WHEN grows THEN format(' HAVING %s > 0', CASE p_op WHEN 'UPDATE' THEN 'sum(u.amount)' ELSE amount END)
                              ELSE '' END, ' UNION ALL ')
           || ') r WHERE r.tenant IS NOT NULL GROUP BY 1, 2 HAVING sum(r.amount) <> 0) d'
      FROM meter
     WHERE NOT (grows AND p_op = 'DELETE'));
END $$;

-- Makes the counters that are not there yet, under the locks that admit_usage takes for the first use in a period.
CREATE FUNCTION tenancy.open_counters(p_tenants uuid[], p_metrics text[], p_periods timestamptz[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM unnest(p_tenants, p_metrics, p_periods) x (tenant, metric, period)
                    WHERE NOT EXISTS (SELECT FROM tenancy.usage_counters c
                                       WHERE c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period)) THEN
        RETURN;
    END IF;
    PERFORM FROM tenancy.tenants t WHERE t.id = ANY (p_tenants) ORDER BY t.id FOR SHARE;
    PERFORM FROM tenancy.metrics m WHERE m.key = ANY (p_metrics) ORDER BY m.key FOR KEY SHARE;
    PERFORM tenancy.read_plan_limits();
    INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start, limit_value, soft,
                                        override_value, override_soft, override_until)
    SELECT v.tenant_id, v.metric, x.period, v.limit_value, v.soft, v.override_value, v.override_soft, v.override_until
      FROM unnest(p_tenants, p_metrics, p_periods) x (tenant, metric, period)
      JOIN tenancy.limit_layers v ON v.tenant_id = x.tenant AND v.metric = x.metric
     ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING;
END $$;

-- Moves counters by what was metered, all of it or, where a limit does not allow it, none. The amounts come in the order of
-- tenant and metric. What is released is always given back, and never below zero.
CREATE FUNCTION tenancy.count_metered(p_tenants uuid[], p_metrics text[], p_amounts numeric[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    amounts  bigint[];
    periods  timestamptz[];
    unknown  uuid;
    expected bigint;
    locked   bigint;
    counted  bigint;
    refused  record;
BEGIN
    IF EXISTS (SELECT FROM unnest(p_amounts) x (amount) WHERE abs(x.amount) > 9223372036854775807) THEN
        RAISE EXCEPTION 'what was metered does not fit a bigint' USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    amounts := p_amounts::bigint[];
    LOOP
        SELECT array_agg(tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), now()) ORDER BY x.n),
               min(x.tenant::text) FILTER (WHERE t.id IS NULL AND x.amount > 0), count(*) FILTER (WHERE x.amount > 0)
          INTO periods, unknown, expected
          FROM unnest(p_tenants, p_metrics, amounts) WITH ORDINALITY x (tenant, metric, amount, n)
          JOIN tenancy.metrics m ON m.key = x.metric
          LEFT JOIN tenancy.tenants t ON t.id = x.tenant;
        IF unknown IS NOT NULL THEN
            RAISE EXCEPTION 'there is no tenant %', unknown
                USING ERRCODE = 'TN004', HINT = 'a metered table holds rows of tenants of the control plane alone';
        END IF;
        PERFORM tenancy.open_counters(array_agg(x.tenant), array_agg(x.metric), array_agg(x.period))
           FROM unnest(p_tenants, p_metrics, periods, amounts) x (tenant, metric, period, amount) WHERE x.amount > 0;
        SELECT count(*), count(*) FILTER (WHERE l.amount > 0) INTO locked, counted
          FROM (SELECT x.amount
                  FROM unnest(p_tenants, p_metrics, periods, amounts) x (tenant, metric, period, amount)
                  JOIN tenancy.usage_counters c ON c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period
                 ORDER BY c.tenant_id, c.metric, c.period_start FOR NO KEY UPDATE OF c) l;
        -- A tenant that was purged meanwhile took its counters with it.
        EXIT WHEN counted = expected;
    END LOOP;

    WITH change AS (
        SELECT c.tenant_id, c.metric, c.period_start, greatest(x.amount, -c.used) AS amount
          FROM unnest(p_tenants, p_metrics, periods, amounts) x (tenant, metric, period, amount)
          JOIN tenancy.usage_counters c ON c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period
         CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft,
                                                   c.override_until, NULL) f
         WHERE x.amount < 0 OR tenancy.usage_fits(c.used, x.amount, 'sum', f.limit_value, f.soft)
    ), moved AS (
        UPDATE tenancy.usage_counters c
           SET used = c.used + change.amount, updated_at = now()
          FROM change
         WHERE c.tenant_id = change.tenant_id AND c.metric = change.metric AND c.period_start = change.period_start
        RETURNING c.tenant_id, c.metric, change.amount
    ), kept AS (
        -- A tenant that is being purged needs no history.
        INSERT INTO tenancy.usage_days AS d (tenant_id, metric, day, amount, events)
        SELECT m.tenant_id, m.metric, (now() AT TIME ZONE 'UTC')::date, m.amount, 1
          FROM moved m JOIN tenancy.tenants t ON t.id = m.tenant_id
        ON CONFLICT (tenant_id, metric, day) DO UPDATE SET amount = d.amount + excluded.amount, events = d.events + 1
    )
    SELECT count(*) INTO counted FROM moved;
    IF counted = locked THEN
        RETURN;
    END IF;

    SELECT t.slug, x.metric, x.amount, c.used, f.limit_value, f.soft INTO refused
      FROM unnest(p_tenants, p_metrics, periods, amounts) WITH ORDINALITY x (tenant, metric, period, amount, n)
      JOIN tenancy.tenants t ON t.id = x.tenant
      JOIN tenancy.usage_counters c ON c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period
     CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft,
                                               c.override_until, NULL) f
     WHERE x.amount > 0 AND NOT tenancy.usage_fits(c.used, x.amount, 'sum', f.limit_value, f.soft)
     ORDER BY x.n LIMIT 1;
    IF refused.soft OR refused.limit_value IS NULL THEN
        RAISE EXCEPTION 'usage of % by tenant % does not fit a bigint: % used, % more asked for',
            refused.metric, refused.slug, refused.used, refused.amount USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    RAISE EXCEPTION 'tenant % would exceed its limit of %: % used of %, % more asked for',
        refused.slug, refused.metric, refused.used, refused.limit_value, refused.amount
        USING ERRCODE = 'TN007',
              DETAIL = jsonb_build_object('tenant', refused.slug, 'metric', refused.metric, 'amount', refused.amount,
                                          'used', refused.used, 'limit', refused.limit_value)::text;
END $$;

-- What a meter's triggers run, with the rights of the control plane and whatever those of the writer are.
CREATE FUNCTION tenancy.meter_usage() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    query   CONSTANT text := tenancy.meter_query(TG_RELID, TG_OP);
    tenants uuid[];
    metrics text[];
    amounts numeric[];
BEGIN
    IF query IS NULL THEN
        RETURN NULL;
    END IF;
    BEGIN
        EXECUTE query INTO tenants, metrics, amounts;
    EXCEPTION WHEN undefined_column THEN
        RAISE EXCEPTION 'a column that %.% is metered by is gone', quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME)
            USING ERRCODE = 'undefined_column', DETAIL = SQLERRM,
                  HINT = 'detach the meter with `tenantctl usage meter detach`, or attach it again with the new name';
    END;
    IF tenants IS NOT NULL THEN
        PERFORM tenancy.count_metered(tenants, metrics, amounts);
    END IF;
    RETURN NULL;
END $$;

-- Before a table is emptied. Nobody else writes to it until the transaction ends. Its rows may not show here, because of
-- their policies, so what is not all of a metric cannot be taken off it.
CREATE FUNCTION tenancy.meter_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    meter   record;
    tenants uuid[];
    metrics text[];
    amounts numeric[];
BEGIN
    FOR meter IN
        SELECT m.metric, m.relation = TG_RELID AND NOT EXISTS (
                   SELECT FROM tenancy.usage_meters o WHERE o.metric = m.metric AND o.relation <> m.relation) AS whole
          FROM tenancy.usage_meters m JOIN tenancy.metrics k ON k.key = m.metric AND k.kind = 'gauge'
         WHERE TG_RELID IN (SELECT tenancy.meter_family(m.relation))
    LOOP
        SELECT array_agg(c.tenant_id ORDER BY c.tenant_id), array_agg(c.metric ORDER BY c.tenant_id),
               array_agg(-c.used::numeric ORDER BY c.tenant_id)
          INTO tenants, metrics, amounts
          FROM tenancy.usage_counters c WHERE c.metric = meter.metric AND c.used <> 0;
        CONTINUE WHEN tenants IS NULL;
        IF NOT meter.whole THEN
            RAISE EXCEPTION 'truncating %.% would leave metric % with a false count', quote_ident(TG_TABLE_SCHEMA),
                quote_ident(TG_TABLE_NAME), meter.metric
                USING ERRCODE = 'feature_not_supported', HINT = 'DELETE its rows, or detach the meter first';
        END IF;
        PERFORM tenancy.count_metered(tenants, metrics, amounts);
    END LOOP;
    RETURN NULL;
END $$;

-- What a table holds of a metric, by tenant: the number of its rows, or the sum of a column. Whoever asks has to see them all.
CREATE FUNCTION tenancy.meter_reading(p_relation regclass, p_tenant_column text, p_sum_column text)
RETURNS TABLE (tenant uuid, amount numeric)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM tenancy.meter_family(p_relation) f WHERE row_security_active(f)) THEN
        RAISE EXCEPTION '% cannot see all rows of %', current_user, p_relation
            USING ERRCODE = 'TN010', HINT = 'connect as a role with BYPASSRLS, or as a superuser';
    END IF;
    RETURN QUERY EXECUTE format('SELECT %I::uuid, %s FROM %s GROUP BY 1', p_tenant_column,
        CASE WHEN p_sum_column IS NULL THEN 'count(*)::numeric' ELSE format('coalesce(sum(%I::bigint), 0)', p_sum_column) END,
        p_relation);
END $$;

-- What the tables of a metric (or one of them) hold together, and what stands in the way of counting it.
CREATE FUNCTION tenancy.meter_total(p_metric text, p_only regclass, OUT tenants uuid[], OUT amounts numeric[], OUT unassigned bigint,
                                    OUT unknowns bigint, OUT unknown uuid, OUT wrong uuid, OUT wrong_amount numeric)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH total AS MATERIALIZED (
        SELECT r.tenant, sum(r.amount) AS amount
          FROM tenancy.usage_meters m
          JOIN pg_class c ON c.oid = m.relation
         CROSS JOIN LATERAL tenancy.meter_reading(m.relation, m.tenant_column, m.sum_column) r
         WHERE m.metric = p_metric AND (p_only IS NULL OR m.relation = p_only)
         GROUP BY 1
    )
    SELECT array_agg(x.tenant ORDER BY x.tenant) FILTER (WHERE t.id IS NOT NULL),
           array_agg(x.amount ORDER BY x.tenant) FILTER (WHERE t.id IS NOT NULL),
           coalesce(sum(x.amount) FILTER (WHERE x.tenant IS NULL), 0)::bigint,
           count(*) FILTER (WHERE x.tenant IS NOT NULL AND t.id IS NULL),
           min(x.tenant::text) FILTER (WHERE x.tenant IS NOT NULL AND t.id IS NULL)::uuid,
           min(x.tenant::text) FILTER (WHERE x.amount NOT BETWEEN 0 AND 9223372036854775807)::uuid,
           min(x.amount) FILTER (WHERE x.amount NOT BETWEEN 0 AND 9223372036854775807)
      FROM total x LEFT JOIN tenancy.tenants t ON t.id = x.tenant
$$;

-- Whether every table of a family has its four triggers, and they fire.
CREATE FUNCTION tenancy.meter_stands(p_relation regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (
        SELECT FROM tenancy.meter_family(p_relation) f
         WHERE (SELECT count(*) FROM pg_trigger t
                 WHERE t.tgrelid = f AND t.tgenabled IN ('O', 'A')
                   AND t.tgfoid IN ('tenancy.meter_usage'::regproc, 'tenancy.meter_truncate'::regproc)) <> 4)
$$;

-- Sets a metric's counters to what its tables hold, and writes down what that changes. The caller has locked the tables.
CREATE FUNCTION tenancy.set_metered(p_metric text, p_tenants uuid[], p_amounts bigint[], p_reason text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM tenancy.open_counters(p_tenants, array_fill(p_metric, ARRAY[cardinality(p_tenants)]),
                                  array_fill('-infinity'::timestamptz, ARRAY[cardinality(p_tenants)]));
    PERFORM FROM tenancy.usage_counters c WHERE c.metric = p_metric AND c.period_start = '-infinity'
      ORDER BY c.tenant_id, c.metric, c.period_start FOR NO KEY UPDATE;
    WITH change AS (
        SELECT c.tenant_id, c.used AS before, coalesce(x.amount, 0) AS after, coalesce(x.amount, 0) - r.amount AS lacking
          FROM tenancy.usage_counters c
          LEFT JOIN unnest(p_tenants, p_amounts) x (tenant, amount) ON x.tenant = c.tenant_id
          JOIN tenancy.usage_recorded(NULL, p_metric) r ON r.tenant_id = c.tenant_id AND r.period_start = c.period_start
         WHERE c.metric = p_metric AND c.period_start = '-infinity'
           AND (c.used <> coalesce(x.amount, 0) OR r.amount <> coalesce(x.amount, 0))
    ), moved AS (
        UPDATE tenancy.usage_counters c SET used = change.after, updated_at = now()
          FROM change
         WHERE c.tenant_id = change.tenant_id AND c.metric = p_metric AND c.period_start = '-infinity'
    )
    INSERT INTO tenancy.usage_corrections (tenant_id, metric, period_start, amount, before, after, reason)
    SELECT tenant_id, p_metric, '-infinity', lacking, before, after, p_reason FROM change;
END $$;

-- Counts a metric from a table from now on, and as far as the table says from its beginning: a gauge is set to what its
-- tables hold, a counter that is never reset gets the rows that are there, one with periods begins with what comes.
CREATE FUNCTION tenancy.attach_meter(p_metric text, p_relation regclass, p_tenant_column text DEFAULT 'tenant_id',
                                     p_sum_column text DEFAULT NULL)
RETURNS TABLE (outcome text, unassigned bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    metric  tenancy.metrics;
    class   pg_class;
    bad     text;
    member  regclass;
    meter   record;
    earlier tenancy.usage_meters;
    reading record;
    tenants uuid[];
    amounts bigint[];
BEGIN
    SELECT * INTO class FROM pg_class c WHERE c.oid = p_relation;
    IF class.relkind NOT IN ('r', 'p') OR class.relpersistence = 't' OR class.relispartition
       OR class.relnamespace IN ('tenancy'::regnamespace, 'pg_catalog'::regnamespace)
       OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = p_relation) THEN
        RAISE EXCEPTION '% is not a table of the platform, or a part of one', p_relation
            USING ERRCODE = 'wrong_object_type', HINT = 'attach the table that its statements name, not a partition, a view or a temporary table';
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid IN (SELECT tenancy.meter_family(p_relation)) AND c.relkind = 'f') THEN
        RAISE EXCEPTION 'a part of % is a foreign table, which others write to unseen', p_relation
            USING ERRCODE = 'wrong_object_type';
    END IF;
    FOR bad IN
        SELECT format('column %I of %s does not exist', x.name, p_relation)
          FROM (VALUES (p_tenant_column), (p_sum_column)) x (name)
         WHERE x.name IS NOT NULL AND NOT EXISTS (
               SELECT FROM pg_attribute a WHERE a.attrelid = p_relation AND a.attname = x.name AND a.attnum > 0 AND NOT a.attisdropped)
    LOOP
        RAISE EXCEPTION '%', bad USING ERRCODE = 'undefined_column';
    END LOOP;
    FOR bad IN
        SELECT format('column %I of %s is of type %s, not %s', a.attname, p_relation, format_type(a.atttypid, a.atttypmod), x.wanted)
          FROM (VALUES (p_tenant_column, 'uuid', '{uuid,text,varchar,bpchar}'::regtype[]),
                       (p_sum_column, 'a whole number', '{smallint,integer,bigint}')) x (name, wanted, types)
          JOIN pg_attribute a ON a.attrelid = p_relation AND a.attname = x.name
          JOIN pg_type t ON t.oid = a.atttypid
         WHERE CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END <> ALL (x.types)
    LOOP
        RAISE EXCEPTION '%', bad USING ERRCODE = 'datatype_mismatch';
    END LOOP;

    -- No write slips in between what is counted here and what the triggers count. In the order of the tables' names, like
    -- everybody who attaches.
    FOR member IN
        SELECT m.relation FROM tenancy.usage_meters m JOIN pg_class c ON c.oid = m.relation WHERE m.metric = p_metric
         UNION SELECT p_relation ORDER BY 1
    LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', member);
    END LOOP;
    SELECT * INTO metric FROM tenancy.metrics m WHERE m.key = p_metric FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no metric %', p_metric USING ERRCODE = 'TN001';
    ELSIF metric.source = 'memberships' THEN
        RAISE EXCEPTION 'metric % is counted from memberships', p_metric USING ERRCODE = 'TN010';
    ELSIF metric.aggregation <> 'sum' THEN
        RAISE EXCEPTION 'metric % holds the largest amount, which rows that come and go do not say', p_metric USING ERRCODE = 'TN010';
    END IF;
    SELECT * INTO earlier FROM tenancy.usage_meters m WHERE m.metric = p_metric AND m.relation = p_relation;
    IF earlier.metric IS NOT NULL AND (earlier.tenant_column, earlier.sum_column) IS NOT DISTINCT FROM (p_tenant_column, p_sum_column)
       AND tenancy.meter_stands(p_relation) THEN
        RETURN QUERY SELECT 'unchanged', 0::bigint;
        RETURN;
    END IF;

    INSERT INTO tenancy.usage_meters (metric, relation, table_name, tenant_column, sum_column)
    VALUES (p_metric, p_relation, p_relation::text, p_tenant_column, p_sum_column)
    ON CONFLICT (metric, relation) DO UPDATE
       SET table_name = excluded.table_name, tenant_column = excluded.tenant_column, sum_column = excluded.sum_column,
           attached_at = now(), attached_by = session_user;
    FOR member IN SELECT tenancy.meter_family(p_relation) LOOP
        EXECUTE (SELECT string_agg(format('CREATE OR REPLACE TRIGGER tenancy_meter_%s %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s()',
                                          lower(x.event), x.moment || x.event, member, x.referencing, x.function), ';')
                   FROM (VALUES ('INSERT', 'AFTER ', 'REFERENCING NEW TABLE AS added', 'tenancy.meter_usage'),
                                ('UPDATE', 'AFTER ', 'REFERENCING OLD TABLE AS gone NEW TABLE AS added', 'tenancy.meter_usage'),
                                ('DELETE', 'AFTER ', 'REFERENCING OLD TABLE AS gone', 'tenancy.meter_usage'),
                                ('TRUNCATE', 'BEFORE ', '', 'tenancy.meter_truncate')) x (event, moment, referencing, function));
    END LOOP;
    -- One that was there and is disabled.
    FOR meter IN
        SELECT t.tgrelid::regclass AS relation, t.tgname FROM pg_trigger t
         WHERE t.tgrelid IN (SELECT tenancy.meter_family(p_relation)) AND t.tgname LIKE 'tenancy\_meter\_%' AND t.tgenabled NOT IN ('O', 'A')
    LOOP
        EXECUTE format('ALTER TABLE ONLY %s ENABLE TRIGGER %I', meter.relation, meter.tgname);
    END LOOP;

    SELECT * INTO reading FROM tenancy.meter_total(p_metric, CASE WHEN metric.kind = 'counter' THEN p_relation END);
    IF reading.unknown IS NOT NULL THEN
        RAISE EXCEPTION '% has rows of % tenants that the control plane does not know, for example %',
            p_relation, reading.unknowns, reading.unknown
            USING ERRCODE = 'TN010', HINT = 'create those tenants, or remove the rows';
    ELSIF reading.wrong IS NOT NULL THEN
        RAISE EXCEPTION 'tenant % has % of % in %, which no counter can hold', reading.wrong, reading.wrong_amount, p_metric, p_relation
            USING ERRCODE = 'TN010';
    END IF;
    tenants := reading.tenants;
    amounts := reading.amounts::bigint[];
    IF metric.kind = 'counter' AND metric.reset = 'never' AND earlier.metric IS NULL AND metric.source = 'meter' THEN
        -- On top of what was counted from other tables.
        SELECT array_agg(c.tenant), array_agg(c.used) INTO tenants, amounts
          FROM (SELECT x.tenant, sum(x.amount)::bigint AS used
                  FROM (SELECT c.tenant_id AS tenant, c.used AS amount FROM tenancy.usage_counters c
                         WHERE c.metric = p_metric AND c.period_start = '-infinity'
                         UNION ALL SELECT * FROM unnest(tenants, amounts)) x (tenant, amount) GROUP BY 1) c;
    END IF;
    IF metric.kind = 'gauge' OR (metric.reset = 'never' AND earlier.metric IS NULL) THEN
        PERFORM tenancy.set_metered(p_metric, coalesce(tenants, '{}'), coalesce(amounts, '{}'), 'counted from ' || p_relation);
    END IF;
    UPDATE tenancy.metrics m SET source = 'meter' WHERE m.key = p_metric AND m.source <> 'meter';
    RETURN QUERY SELECT CASE WHEN earlier.metric IS NULL THEN 'created' ELSE 'updated' END, reading.unassigned;
END $$;

-- Ends the counting of a metric from a table, or from all where none is named. Counters stay as they are.
CREATE FUNCTION tenancy.detach_meter(p_metric text, p_relation regclass DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    meter    record;
    member   regclass;
    detached bigint := 0;
BEGIN
    FOR meter IN
        SELECT m.relation, c.oid IS NOT NULL AS there,
               EXISTS (SELECT FROM tenancy.usage_meters o WHERE o.relation = m.relation AND o.metric <> m.metric) AS shared
          FROM tenancy.usage_meters m LEFT JOIN pg_class c ON c.oid = m.relation
         WHERE m.metric = p_metric AND (p_relation IS NULL OR m.relation = p_relation)
         ORDER BY m.relation
    LOOP
        IF meter.there THEN
            EXECUTE format('LOCK TABLE %s IN %s MODE', meter.relation,
                           CASE WHEN meter.shared THEN 'SHARE ROW EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END);
        END IF;
        DELETE FROM tenancy.usage_meters m WHERE m.metric = p_metric AND m.relation = meter.relation;
        detached := detached + 1;
        FOR member IN SELECT tenancy.meter_family(meter.relation) WHERE meter.there AND NOT meter.shared LOOP
            EXECUTE (SELECT string_agg(format('DROP TRIGGER tenancy_meter_%s ON %s', x.event, member), ';')
                       FROM unnest(ARRAY['insert', 'update', 'delete', 'truncate']) x (event)
                      WHERE EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = member AND t.tgname = 'tenancy_meter_' || x.event));
        END LOOP;
    END LOOP;
    UPDATE tenancy.metrics m SET source = 'reported'
     WHERE m.key = p_metric AND m.source = 'meter'
       AND NOT EXISTS (SELECT FROM tenancy.usage_meters o WHERE o.metric = p_metric);
    RETURN detached;
END $$;

REVOKE EXECUTE ON FUNCTION tenancy.meter_family, tenancy.meter_query, tenancy.open_counters, tenancy.count_metered, tenancy.meter_usage, tenancy.meter_truncate,
    tenancy.meter_reading, tenancy.meter_total, tenancy.meter_stands, tenancy.set_metered, tenancy.attach_meter, tenancy.detach_meter
    FROM PUBLIC;
