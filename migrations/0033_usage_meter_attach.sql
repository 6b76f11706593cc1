-- Attaching and detaching meters, exact beside everything else that goes on.

-- Tables that a counter which never resets still has the rows of, while it is counted from others.
CREATE TABLE tenancy.usage_meters_past (
    metric   text NOT NULL REFERENCES tenancy.metrics ON UPDATE CASCADE ON DELETE CASCADE,
    relation regclass NOT NULL,
    PRIMARY KEY (metric, relation)
);
COMMENT ON TABLE tenancy.usage_meters_past IS 'Tables whose rows are part of a counter that goes on without them';

-- Whether a table can be metered by these columns; ends the statement where not.
CREATE FUNCTION tenancy.check_meterable(p_relation regclass, p_tenant_column text, p_sum_column text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    class  pg_class;
    member record;
    bad    text;
BEGIN
    SELECT * INTO class FROM pg_class c WHERE c.oid = p_relation;
    IF class.oid IS NULL OR class.relkind NOT IN ('r', 'p') OR class.relpersistence = 't' OR class.relispartition
       OR class.relnamespace IN ('tenancy'::regnamespace, 'pg_catalog'::regnamespace)
       OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = p_relation) THEN
        RAISE EXCEPTION '% is not a table of the platform, or a part of one', p_relation
            USING ERRCODE = 'wrong_object_type', HINT = 'attach the table that its statements name, not a partition, a view or a temporary table';
    END IF;
    FOR member IN
        SELECT c.oid::regclass AS relation, c.relkind, c.relpersistence,
               (SELECT min(i.inhparent)::regclass FROM pg_inherits i
                 WHERE i.inhrelid = c.oid AND i.inhparent NOT IN (SELECT tenancy.meter_family(p_relation))) AS other
          FROM pg_class c WHERE c.oid IN (SELECT tenancy.meter_family(p_relation)) ORDER BY c.oid
    LOOP
        IF member.relkind = 'f' THEN
            RAISE EXCEPTION 'a part of % is a foreign table, which others write to unseen', p_relation USING ERRCODE = 'wrong_object_type';
        ELSIF member.relpersistence <> 'p' THEN
            RAISE EXCEPTION '% is unlogged: a crash empties it, and its counters stay', member.relation
                USING ERRCODE = 'wrong_object_type', HINT = format('ALTER TABLE %s SET LOGGED', member.relation);
        ELSIF member.other IS NOT NULL THEN
            RAISE EXCEPTION '% is a part of % as well as of %', member.relation, member.other, p_relation
                USING ERRCODE = 'wrong_object_type', HINT = format('ALTER TABLE %s NO INHERIT %s', member.relation, member.other);
        END IF;
    END LOOP;
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
          FROM (VALUES (p_tenant_column, 'uuid', p_tenant_column, NULL),
                       (p_sum_column, 'a whole number', p_tenant_column, p_sum_column)) x (name, wanted, tenant, sum)
          JOIN pg_attribute a ON a.attrelid = p_relation AND a.attname = x.name
         WHERE NOT tenancy.meter_sound(p_relation, x.tenant, x.sum)
    LOOP
        RAISE EXCEPTION '%', bad USING ERRCODE = 'datatype_mismatch';
    END LOOP;
END $$;

-- Locks tables, as far as they are still there, in the order in which everybody does who attaches or detaches.
CREATE FUNCTION tenancy.lock_metered(p_relations oid[], p_mode text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    relation regclass;
BEGIN
    FOR relation IN SELECT c.oid FROM pg_class c WHERE c.oid = ANY (p_relations) ORDER BY c.oid LOOP
        EXECUTE format('LOCK TABLE %s IN %s MODE', relation, p_mode);
    END LOOP;
END $$;

-- Makes the triggers of a table and of its parts, with a stamp that only newer snapshots show. The caller has locked them.
CREATE FUNCTION tenancy.make_meter_triggers(p_relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number bigint;
    part   record;
    always boolean;
BEGIN
    -- One at a time: whoever gets here has the lock of change_plan_limits.
    INSERT INTO tenancy.usage_meter_stamps (stamp) SELECT coalesce(max(s.stamp), 0) + 1 FROM tenancy.usage_meter_stamps s
    RETURNING stamp INTO number;
    -- One that was renamed would count a second time.
    FOR part IN
        SELECT t.tgrelid::regclass AS member, t.tgname FROM pg_trigger t
         WHERE t.tgrelid IN (SELECT tenancy.meter_family(p_relation)) AND NOT t.tgisinternal
           AND t.tgfoid IN ('tenancy.meter_usage'::regproc, 'tenancy.meter_truncate'::regproc)
           AND t.tgname NOT IN ('tenancy_meter_insert', 'tenancy_meter_update', 'tenancy_meter_delete', 'tenancy_meter_truncate')
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', part.tgname, part.member);
    END LOOP;
    FOR part IN
        SELECT f.relation::regclass AS member, 'tenancy_meter_' || lower(x.event) AS name, x.*
          FROM tenancy.meter_family(p_relation) f (relation),
               (VALUES ('INSERT', 'AFTER ', 'REFERENCING NEW TABLE AS added', 'tenancy.meter_usage'),
                       ('UPDATE', 'AFTER ', 'REFERENCING OLD TABLE AS gone NEW TABLE AS added', 'tenancy.meter_usage'),
                       ('DELETE', 'AFTER ', 'REFERENCING OLD TABLE AS gone', 'tenancy.meter_usage'),
                       ('TRUNCATE', 'BEFORE ', '', 'tenancy.meter_truncate')) x (event, moment, referencing, function)
         ORDER BY 1
    LOOP
        -- Whoever lets it fire for replicated rows, too, has a reason.
        always := EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = part.member AND t.tgname = part.name AND t.tgenabled = 'A');
        EXECUTE format('CREATE OR REPLACE TRIGGER %I %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION %s(%L)',
                       part.name, part.moment || part.event, part.member, part.referencing, part.function, number);
        EXECUTE format('ALTER TABLE ONLY %s ENABLE %s TRIGGER %I', part.member, CASE WHEN always THEN 'ALWAYS' ELSE '' END, part.name);
    END LOOP;
END $$;

-- Counts a metric from a table from now on, and as far as the table says from its beginning: a gauge is set to what its
-- tables hold, a counter that is never reset gets the rows that are there, one with periods begins with what comes.
-- unassigned is NULL where nothing was read because nothing changed.
CREATE OR REPLACE FUNCTION tenancy.attach_meter(p_metric text, p_relation regclass, p_tenant_column text DEFAULT 'tenant_id',
                                     p_sum_column text DEFAULT NULL)
RETURNS TABLE (outcome text, unassigned bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    metric  tenancy.metrics;
    other   text;
    earlier tenancy.usage_meters;
    reading record;
    bad     boolean;
    tenants uuid[];
    amounts bigint[];
BEGIN
    IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
        RAISE EXCEPTION 'a meter cannot be attached by what a snapshot shows'
            USING ERRCODE = 'active_sql_transaction', HINT = 'use a transaction that is READ COMMITTED';
    END IF;
    -- Before a lock is taken on what it might be instead of a table.
    PERFORM tenancy.check_meterable(p_relation, p_tenant_column, p_sum_column);
    -- No write slips in between what is counted here and what the triggers count. Tables come before all else, like for
    -- whoever writes to one that is metered: they wait for the table, or we for them before we have anything they need.
    PERFORM tenancy.lock_metered(ARRAY(SELECT m.relation::oid FROM tenancy.usage_meters m WHERE m.metric = p_metric UNION SELECT p_relation),
                                 'SHARE ROW EXCLUSIVE');
    -- In this order, as when a catalogue is applied. It also waits for whoever makes a first counter, and they for us.
    PERFORM tenancy.change_plan_limits();
    SELECT * INTO metric FROM tenancy.metrics m WHERE m.key = p_metric FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no metric %', p_metric USING ERRCODE = 'TN001';
    ELSIF metric.source = 'memberships' THEN
        RAISE EXCEPTION 'metric % is counted from memberships', p_metric USING ERRCODE = 'TN010';
    ELSIF metric.aggregation <> 'sum' THEN
        RAISE EXCEPTION 'metric % holds the largest amount, which rows that come and go do not say', p_metric USING ERRCODE = 'TN010';
    END IF;
    -- Those that were attached while we waited. From here on nobody attaches any.
    PERFORM tenancy.lock_metered(ARRAY(SELECT m.relation::oid FROM tenancy.usage_meters m WHERE m.metric = p_metric), 'SHARE ROW EXCLUSIVE');
    PERFORM tenancy.check_meterable(p_relation, p_tenant_column, p_sum_column);
    SELECT m.relation::text INTO other FROM tenancy.usage_meters m
     WHERE m.metric = p_metric AND m.relation <> p_relation AND m.relation IN (SELECT tenancy.meter_family(p_relation)) LIMIT 1;
    IF other IS NOT NULL THEN
        RAISE EXCEPTION '% is counted from % already, which is a part of %', p_metric, other, p_relation
            USING ERRCODE = 'TN010', HINT = format('`tenantctl usage meter detach %s --table %s` first', p_metric,
                                                   '''' || replace(other, '''', '''\''''') || '''');
    END IF;
    IF EXISTS (SELECT FROM tenancy.usage_meters_past m WHERE m.metric = p_metric AND m.relation = p_relation) THEN
        RAISE EXCEPTION 'what % held when it was detached is part of % already', p_relation, p_metric
            USING ERRCODE = 'TN010', HINT = format('`tenantctl usage meter detach %s`, which detaches its other tables, and attach them all again', p_metric);
    END IF;
    SELECT * INTO earlier FROM tenancy.usage_meters m WHERE m.metric = p_metric AND m.relation = p_relation;
    IF earlier.metric IS NOT NULL AND (earlier.tenant_column, earlier.sum_column) IS NOT DISTINCT FROM (p_tenant_column, p_sum_column)
       AND tenancy.meter_stands(p_relation) THEN
        RETURN QUERY SELECT 'unchanged', NULL::bigint;
        RETURN;
    END IF;

    -- Whoever is about to report usage has read where it comes from. Those who hold a counter are waited for, those who wait for
    -- it find it changed, and read again or, with an older snapshot, fail.
    UPDATE tenancy.metrics m SET source = 'meter' WHERE m.key = p_metric AND m.source <> 'meter';
    PERFORM FROM tenancy.usage_counters c WHERE c.metric = p_metric
      ORDER BY c.tenant_id, c.metric, c.period_start FOR NO KEY UPDATE;
    UPDATE tenancy.usage_counters c SET updated_at = now() WHERE c.metric = p_metric;
    -- What is reserved is no longer reported when the work is done, but written to the table.
    WITH gone AS (
        UPDATE tenancy.usage_reservations r SET state = 'released', closed_at = now() WHERE r.metric = p_metric AND r.state = 'open'
        RETURNING r.tenant_id, r.period_start, r.amount
    ), back AS (
        SELECT g.tenant_id, g.period_start, sum(g.amount)::bigint AS amount FROM gone g GROUP BY 1, 2
    )
    UPDATE tenancy.usage_counters c SET used = c.used - least(c.used, b.amount)
      FROM back b
     WHERE c.tenant_id = b.tenant_id AND c.metric = p_metric AND c.period_start = b.period_start;

    INSERT INTO tenancy.usage_meters (metric, relation, table_name, tenant_column, sum_column)
    VALUES (p_metric, p_relation, p_relation::text, p_tenant_column, p_sum_column)
    ON CONFLICT (metric, relation) DO UPDATE
       SET table_name = excluded.table_name, tenant_column = excluded.tenant_column, sum_column = excluded.sum_column,
           attached_at = now(), attached_by = session_user;
    PERFORM tenancy.make_meter_triggers(p_relation);

    SELECT * INTO reading FROM tenancy.meter_total(p_metric, CASE WHEN metric.kind = 'counter' THEN p_relation END);
    IF reading.unknown IS NOT NULL THEN
        RAISE EXCEPTION '% has rows of % tenants that the control plane does not know, for example %',
            p_relation, reading.unknowns, reading.unknown
            USING ERRCODE = 'TN010', HINT = 'create those tenants, or remove the rows';
    ELSIF reading.wrong IS NOT NULL THEN
        RAISE EXCEPTION 'tenant % has % of % in %, which no counter can hold', reading.wrong, reading.wrong_amount, p_metric, p_relation
            USING ERRCODE = 'TN010';
    END IF;
    IF p_sum_column IS NOT NULL THEN
        -- A sum that dips below zero on the way down would be cut off there.
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %s < 0)', p_relation,
                       tenancy.metered_column(p_relation, p_sum_column, 'bigint', false)) INTO bad;
        IF bad THEN
            RAISE EXCEPTION 'column % of % has values below zero, which no counter can hold', quote_ident(p_sum_column), p_relation
                USING ERRCODE = 'TN010', HINT = 'correct those rows first';
        END IF;
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
    RETURN QUERY SELECT CASE WHEN earlier.metric IS NULL THEN 'created' ELSE 'updated' END, reading.unassigned;
END $$;

-- Ends the counting of a metric from a table, or from all where none is named. Counters stay as they are.
CREATE OR REPLACE FUNCTION tenancy.detach_meter(p_metric text, p_relation regclass DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    metric   tenancy.metrics;
    meter    record;
    part     record;
    family   oid[] := '{}';
    detached bigint := 0;
BEGIN
    -- In the order of attach_meter. Where other metrics keep the triggers, readers go on.
    FOR meter IN
        SELECT m.relation, EXISTS (SELECT FROM tenancy.usage_meters o WHERE o.relation = m.relation AND o.metric <> m.metric) AS shared
          FROM tenancy.usage_meters m
         WHERE m.metric = p_metric AND (p_relation IS NULL OR m.relation = p_relation)
         ORDER BY m.relation
    LOOP
        PERFORM tenancy.lock_metered(ARRAY[meter.relation::oid], CASE WHEN meter.shared THEN 'SHARE ROW EXCLUSIVE' ELSE 'ACCESS EXCLUSIVE' END);
    END LOOP;
    PERFORM tenancy.change_plan_limits();
    SELECT * INTO metric FROM tenancy.metrics m WHERE m.key = p_metric FOR NO KEY UPDATE;
    FOR meter IN
        SELECT m.relation, c.oid IS NOT NULL AS there,
               EXISTS (SELECT FROM tenancy.usage_meters o WHERE o.relation = m.relation AND o.metric <> m.metric) AS shared
          FROM tenancy.usage_meters m LEFT JOIN pg_class c ON c.oid = m.relation
         WHERE m.metric = p_metric AND (p_relation IS NULL OR m.relation = p_relation)
         ORDER BY m.relation
    LOOP
        DELETE FROM tenancy.usage_meters m WHERE m.metric = p_metric AND m.relation = meter.relation;
        detached := detached + 1;
        IF meter.there AND meter.shared THEN
            -- Who began before would go on counting for this metric.
            PERFORM tenancy.make_meter_triggers(meter.relation);
        END IF;
        family := family || ARRAY(SELECT tenancy.meter_family(meter.relation));
        IF metric.kind = 'counter' AND metric.reset = 'never' THEN
            INSERT INTO tenancy.usage_meters_past (metric, relation) VALUES (p_metric, meter.relation) ON CONFLICT DO NOTHING;
        END IF;
    END LOOP;
    -- Wherever no meter is left: also on parts that left their table since, as far as they are ours to change. A part may lack some.
    FOR part IN
        SELECT t.tgrelid::regclass AS member, t.tgname
          FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
         WHERE t.tgfoid IN ('tenancy.meter_usage'::regproc, 'tenancy.meter_truncate'::regproc)
           AND t.tgrelid NOT IN (SELECT f FROM tenancy.usage_meters m CROSS JOIN LATERAL tenancy.meter_family(m.relation) f)
           AND (t.tgrelid = ANY (family) OR pg_has_role(c.relowner, 'USAGE'))
         ORDER BY t.tgrelid, t.tgname
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', part.tgname, part.member);
    END LOOP;
    IF NOT EXISTS (SELECT FROM tenancy.usage_meters o WHERE o.metric = p_metric) THEN
        UPDATE tenancy.metrics m SET source = 'reported' WHERE m.key = p_metric AND m.source = 'meter';
        DELETE FROM tenancy.usage_meters_past m WHERE m.metric = p_metric;
    END IF;
    RETURN detached;
END $$;

REVOKE EXECUTE ON FUNCTION tenancy.check_meterable, tenancy.lock_metered, tenancy.make_meter_triggers FROM PUBLIC;
