-- Usage of many events, decided by one statement.

-- A sum that goes on from row to row, within bigint.
CREATE AGGREGATE tenancy.running_sum(bigint) (SFUNC = int8pl, STYPE = bigint, INITCOND = '0');

-- One amount after the other, each admitted if it fits what those before it left.
CREATE FUNCTION tenancy.admit_next(p_state bigint, p_start bigint, p_amount bigint, p_aggregation text, p_limit bigint, p_soft boolean)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN CASE WHEN NOT tenancy.usage_fits(coalesce(p_state, p_start), p_amount, p_aggregation, p_limit, p_soft)
                THEN coalesce(p_state, p_start)
                WHEN p_aggregation = 'max' THEN greatest(coalesce(p_state, p_start), p_amount)
                ELSE coalesce(p_state, p_start) + p_amount END;
END $$;
CREATE AGGREGATE tenancy.admitted(bigint, bigint, text, bigint, boolean) (SFUNC = tenancy.admit_next, STYPE = bigint);
REVOKE EXECUTE ON FUNCTION tenancy.running_sum(bigint), tenancy.admit_next, tenancy.admitted FROM PUBLIC;

-- Records many events: in the order in which they come, each if the limit allows it after those before it, all of them or,
-- where an error is raised, none. Events of one tenant, metric and day of UTC are a group (p_group counts from 1), so that
-- what they have in common is looked up once. p_environments has a group's limit from the caller's environment, as
-- admit_usage does. The answer has every event with p_all, otherwise those that were not just accepted. Outcomes beside
-- track_usage's: conflict (the key was used for something else), unknown_tenant, unknown_metric, inactive (the tenant is),
-- not_reported (the metric is counted from elsewhere), too_old (before p_oldest, or what was pruned), too_new, invalid_amount, invalid_key.
--
-- Counters are locked first, in the order of their key, so that the figures that everything is decided by stay; then every
-- key is looked for. Events whose sum fits take no decision of their own. Keys are expected to be new: where one turns out
-- not to be, all is undone and done again with a look at each.
CREATE FUNCTION tenancy.record_usage(
    p_tenants uuid[], p_metrics text[], p_days date[], p_environments bigint[],
    p_group int[], p_amounts bigint[], p_keys text[], p_at timestamptz[], p_oldest timestamptz, p_all boolean)
RETURNS TABLE (ord bigint, outcome text, used bigint, limit_value bigint, period_start timestamptz)
-- Without nested loops every plan seems costly, and compiling it would take seconds.
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    current  CONSTANT int := tenancy.usage_epoch();
    -- Keys of what was recorded before the oldest epoch are forgotten: what may be among them is not counted anew. An event
    -- is recorded at most an hour before it occurs.
    oldest   CONSTANT timestamptz := greatest(p_oldest, (SELECT min(e.opened_at) + interval '1 hour' FROM tenancy.usage_epochs e
                                                         HAVING min(e.epoch) > 1));
    newest   CONSTANT timestamptz := now() + interval '1 hour';
    -- By group: when its period began, what is wrong with it, whether its metric only grows, and its counter, which has the
    -- number of the first group that it serves.
    periods  timestamptz[];
    verdicts text[];
    sound    boolean[];
    grows    boolean[];
    counters int[];
    -- By counter, at its number: what it holds, the limit in force (the largest bigint for none), whether that is soft, and
    -- whether it holds the largest amount. Arrays of fixed-length types without NULLs are read in constant time.
    starts   bigint[];
    tops     bigint[];
    softs    boolean[];
    maxima   boolean[];
    -- The metrics by name, and each group's among them.
    names    text[];
    named    int[];
    expected int;
    locked   int;
    -- Whether every key is looked for: where there is an older epoch, or one of some keys is there already.
    look     boolean := EXISTS (SELECT FROM tenancy.usage_epochs e WHERE e.epoch <> current)
                     OR EXISTS (SELECT FROM generate_series(1, cardinality(p_keys), 1 + cardinality(p_keys) / 32) n
                                  JOIN tenancy.usage_events e ON e.tenant_id = p_tenants[p_group[n]] AND e.key = p_keys[n]);
    ords     bigint[];
    outcomes text[];
    useds    bigint[];
    limits   bigint[];
    answered timestamptz[];
    counted  int[];
    sums     bigint[];
    peaks    bigint[];
    nested   CONSTANT text := current_setting('enable_nestloop');
BEGIN
    LOOP
        SELECT array_agg(r.period ORDER BY r.g), array_agg(r.verdict ORDER BY r.g), array_agg(r.verdict IS NULL ORDER BY r.g),
               array_agg(coalesce(r.grows, false) ORDER BY r.g), array_agg(r.counter ORDER BY r.g),
               count(*) FILTER (WHERE r.verdict IS NULL AND r.g = r.counter)
          INTO periods, verdicts, sound, grows, counters, expected
          FROM (SELECT g.*, min(g.g) OVER (PARTITION BY g.tenant, g.metric, g.period)::int AS counter
                  FROM (SELECT x.g, x.tenant, x.metric, m.kind = 'counter' AS grows,
                               tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day),
                                                    x.day::timestamp AT TIME ZONE 'UTC') AS period,
                               CASE WHEN t.id IS NULL THEN 'unknown_tenant' WHEN m.key IS NULL THEN 'unknown_metric'
                                    WHEN t.status <> 'active' THEN 'inactive'
                                    WHEN m.source <> 'reported' THEN 'not_reported' END AS verdict
                          FROM unnest(p_tenants, p_metrics, p_days) WITH ORDINALITY x (tenant, metric, day, g)
                          LEFT JOIN tenancy.tenants t ON t.id = x.tenant
                          LEFT JOIN tenancy.metrics m ON m.key = x.metric) g) r;

        -- The first use in a period, as in admit_usage.
        IF EXISTS (SELECT FROM unnest(p_tenants, p_metrics, periods, sound) x (tenant, metric, period, sound)
                    WHERE x.sound AND NOT EXISTS (
                        SELECT FROM tenancy.usage_counters c
                         WHERE c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period)) THEN
            PERFORM FROM tenancy.tenants t WHERE t.id = ANY (p_tenants) ORDER BY t.id FOR SHARE;
            PERFORM FROM tenancy.metrics m WHERE m.key = ANY (p_metrics) ORDER BY m.key FOR KEY SHARE;
            PERFORM tenancy.read_plan_limits();
            INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start, limit_value, soft,
                                                override_value, override_soft, override_until)
            SELECT DISTINCT v.tenant_id, v.metric, x.period, v.limit_value, v.soft,
                   v.override_value, v.override_soft, v.override_until
              FROM unnest(p_tenants, p_metrics, periods, sound) x (tenant, metric, period, sound)
              JOIN tenancy.limit_layers v ON v.tenant_id = x.tenant AND v.metric = x.metric
             WHERE x.sound
             ORDER BY 1, 2, 3
            ON CONFLICT DO NOTHING;
        END IF;
        PERFORM FROM tenancy.usage_counters c
           JOIN unnest(p_tenants, p_metrics, periods, sound, counters) WITH ORDINALITY x (tenant, metric, period, sound, counter, g)
             ON c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period
          WHERE x.sound AND x.g = x.counter
          ORDER BY c.tenant_id, c.metric, c.period_start FOR NO KEY UPDATE OF c;
        GET DIAGNOSTICS locked = ROW_COUNT;
        -- A tenant that was purged meanwhile took its counters with it.
        EXIT WHEN locked = expected;
    END LOOP;

    -- What is reserved in vain makes room.
    PERFORM tenancy.reclaim_usage(r.tenant_id, r.metric, r.period_start)
       FROM (SELECT DISTINCT r.tenant_id, r.metric, r.period_start
               FROM unnest(p_tenants, p_metrics, periods, sound) x (tenant, metric, period, sound)
               JOIN tenancy.usage_reservations r ON r.tenant_id = x.tenant AND r.metric = x.metric AND r.period_start = x.period
              WHERE x.sound AND r.state = 'open' AND r.expires_at <= now()) r;

    names := ARRAY(SELECT DISTINCT unnest(p_metrics));
    SELECT array_agg(coalesce(c.used, 0) ORDER BY x.g), array_agg(coalesce(f.limit_value, 9223372036854775807) ORDER BY x.g),
           array_agg(coalesce(f.soft, false) ORDER BY x.g), array_agg(coalesce(m.aggregation = 'max', false) ORDER BY x.g),
           array_agg(coalesce(array_position(names, x.metric), 0) ORDER BY x.g)
      INTO starts, tops, softs, maxima, named
      FROM unnest(p_tenants, p_metrics, periods, p_environments) WITH ORDINALITY x (tenant, metric, period, environment, g)
      LEFT JOIN tenancy.metrics m ON m.key = x.metric
      LEFT JOIN tenancy.usage_counters c ON c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period
     CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft,
                                               c.override_until, x.environment) f;

    LOOP
        BEGIN
            -- How many rows each step has is known to nobody beforehand: no loop within a loop.
            PERFORM set_config('enable_nestloop', 'off', true);
            WITH event AS MATERIALIZED (
                SELECT i.ord, i.g, counters[i.g] AS counter, i.amount, i.key, i.at,
                       CASE WHEN NOT sound[i.g] THEN verdicts[i.g]
                            WHEN i.amount IS NULL OR i.amount = 0 OR i.amount = -9223372036854775808
                                 OR (i.amount < 0 AND grows[i.g]) THEN 'invalid_amount'
                            WHEN octet_length(i.key) NOT BETWEEN 1 AND 1024 THEN 'invalid_key'
                            WHEN i.at < oldest THEN 'too_old'
                            WHEN i.at > newest THEN 'too_new' END AS verdict
                  FROM unnest(p_group, p_amounts, p_keys, p_at) WITH ORDINALITY i (g, amount, key, at, ord)
            ), seen AS MATERIALIZED (
                SELECT e.ord, l.metric = names[named[e.g]] AND l.amount = e.amount AS same, l.used, l.limit_value, l.period_start
                  FROM event e
                 CROSS JOIN LATERAL (SELECT l.* FROM tenancy.usage_events l
                                      WHERE l.tenant_id = p_tenants[e.g] AND l.key = e.key LIMIT 1) l
                 WHERE look AND e.verdict IS NULL
            ), once AS MATERIALIZED (
                SELECT e.ord, e.counter, e.amount, min(e.ord) OVER (PARTITION BY p_tenants[e.g], e.key) AS first
                  FROM event e
                 WHERE look AND e.verdict IS NULL AND e.key IS NOT NULL AND NOT EXISTS (SELECT FROM seen s WHERE s.ord = e.ord)
            ), fresh AS NOT MATERIALIZED (
                SELECT e.ord, e.counter, e.amount, e.key, e.at FROM event e
                 WHERE e.verdict IS NULL
                   AND (NOT look OR e.key IS NULL OR e.ord IN (SELECT o.ord FROM once o WHERE o.first = o.ord))
            ), fitting AS MATERIALIZED (
                -- In any order: no sum of a part of them is above the first or below the second.
                SELECT t.counter
                  FROM (SELECT f.counter, coalesce(sum(f.amount) FILTER (WHERE f.amount > 0), 0) AS more,
                               coalesce(sum(f.amount) FILTER (WHERE f.amount < 0), 0) AS less
                          FROM fresh f GROUP BY f.counter) t
                 WHERE NOT maxima[t.counter] AND starts[t.counter] + t.less >= 0
                   AND starts[t.counter] + t.more <= CASE WHEN softs[t.counter] THEN 9223372036854775807 ELSE tops[t.counter] END
            ), decided AS MATERIALIZED (
                SELECT f.*, starts[f.counter] + tenancy.running_sum(f.amount) OVER (PARTITION BY f.counter ORDER BY f.ord) AS after,
                       true AS fits
                  FROM fresh f JOIN fitting w ON w.counter = f.counter
                 UNION ALL
                SELECT d.*, CASE WHEN maxima[d.counter] THEN tenancy.usage_fits(0, d.amount, 'max', tops[d.counter], softs[d.counter])
                                 ELSE d.after - lag(d.after, 1, starts[d.counter]) OVER (PARTITION BY d.counter ORDER BY d.ord)
                                      = d.amount END
                  FROM (SELECT f.*, tenancy.admitted(starts[f.counter], f.amount, CASE WHEN maxima[f.counter] THEN 'max' ELSE 'sum' END,
                                                     tops[f.counter], softs[f.counter])
                                        OVER (PARTITION BY f.counter ORDER BY f.ord) AS after
                          FROM fresh f WHERE f.counter NOT IN (SELECT w.counter FROM fitting w)) d
            ), written AS (
                INSERT INTO tenancy.usage_events
                    (epoch, tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
                SELECT current, p_tenants[d.counter], names[named[d.counter]], d.amount, d.key, d.at, periods[d.counter], d.after,
                       nullif(tops[d.counter], 9223372036854775807)
                  FROM decided d WHERE d.fits
            ), answer AS (
                SELECT d.ord, CASE WHEN NOT d.fits THEN 'rejected'
                                   WHEN softs[d.counter] AND d.amount > 0 AND d.after > tops[d.counter] THEN 'over_soft_limit'
                                   ELSE 'accepted' END AS outcome, d.after AS used, d.counter
                  FROM decided d
                 WHERE p_all OR NOT d.fits OR softs[d.counter]
                 UNION ALL
                -- The same key again: what became of it the first time.
                SELECT o.ord, CASE WHEN (o.counter, o.amount) <> (d.counter, d.amount) THEN 'conflict'
                                   WHEN d.fits THEN 'duplicate' ELSE 'rejected' END, d.after, d.counter
                  FROM once o JOIN decided d ON d.ord = o.first WHERE o.first <> o.ord
            ), told AS (
                SELECT a.ord, a.outcome, a.used, nullif(tops[a.counter], 9223372036854775807) AS limit_value, periods[a.counter] AS period
                  FROM answer a
                 UNION ALL
                SELECT s.ord, CASE WHEN s.same THEN 'duplicate' ELSE 'conflict' END, s.used, s.limit_value, s.period_start FROM seen s
                 UNION ALL
                SELECT e.ord, e.verdict, NULL, NULL, NULL FROM event e WHERE e.verdict IS NOT NULL
            )
            SELECT t.ords, t.outcomes, t.useds, t.limits, t.answered, n.counted, n.sums, n.peaks
              INTO ords, outcomes, useds, limits, answered, counted, sums, peaks
              FROM (SELECT array_agg(a.ord) AS ords, array_agg(a.outcome) AS outcomes, array_agg(a.used) AS useds,
                           array_agg(a.limit_value) AS limits, array_agg(a.period) AS answered
                      FROM told a WHERE p_all OR a.outcome <> 'accepted') t,
                   (SELECT array_agg(n.counter) AS counted, array_agg(n.amount) AS sums, array_agg(n.most) AS peaks
                      FROM (SELECT d.counter, sum(d.amount)::bigint AS amount, max(d.amount) AS most
                              FROM decided d WHERE d.fits GROUP BY d.counter) n) n;
            PERFORM set_config('enable_nestloop', nested, true);
            EXIT;
        EXCEPTION WHEN unique_violation THEN
            look := true;
        END;
    END LOOP;
    UPDATE tenancy.usage_counters u
       SET used = CASE WHEN maxima[n.counter] THEN greatest(u.used, n.most) ELSE u.used + n.amount END, updated_at = now()
      FROM unnest(counted, sums, peaks) n (counter, amount, most)
     WHERE u.tenant_id = p_tenants[n.counter] AND u.metric = names[named[n.counter]] AND u.period_start = periods[n.counter];
    -- Not before all of it is written: what an undone attempt had returned would stay.
    RETURN QUERY SELECT * FROM unnest(ords, outcomes, useds, limits, answered);
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.record_usage FROM PUBLIC;


-- Makes sure that old usage can go: opens an epoch where the newest has lasted for a third of the time that usage is kept.
-- Tells whether it did.
CREATE FUNCTION tenancy.open_usage_epoch(p_keep interval) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    next int;
BEGIN
    -- Waits for whoever is recording, and they for us.
    PERFORM pg_advisory_xact_lock(1952804449, 1);
    IF (SELECT max(e.opened_at) FROM tenancy.usage_epochs e) > now() - p_keep / 3 THEN
        RETURN false;
    END IF;
    SELECT max(e.epoch) + 1 INTO next FROM tenancy.usage_epochs e;
    INSERT INTO tenancy.usage_epochs (epoch) VALUES (next);
    EXECUTE format('CREATE TABLE tenancy.%I PARTITION OF tenancy.usage_events FOR VALUES IN (%s)', 'usage_events_' || next, next);
    EXECUTE format('ALTER TABLE tenancy.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', 'usage_events_' || next);
    RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.open_usage_epoch FROM PUBLIC;

-- The epochs in which nothing was recorded for longer than usage is kept.
CREATE FUNCTION tenancy.old_usage_epochs(p_keep interval) RETURNS SETOF int
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT e.epoch
      FROM (SELECT e.epoch, lead(e.opened_at) OVER (ORDER BY e.epoch) AS closed_at FROM tenancy.usage_epochs e) e
     WHERE e.closed_at < now() - p_keep
     ORDER BY e.epoch;
END;
REVOKE EXECUTE ON FUNCTION tenancy.old_usage_epochs FROM PUBLIC;

-- Forgets reservations that were closed longer ago than usage is kept.
CREATE FUNCTION tenancy.drop_usage_reservations(p_keep interval) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    DELETE FROM tenancy.usage_reservations r WHERE r.state <> 'open' AND r.closed_at < now() - p_keep;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.drop_usage_reservations FROM PUBLIC;

-- Drops an epoch, of which the usage by day is kept. Tells how many events it had.
CREATE FUNCTION tenancy.drop_usage_epoch(p_epoch int) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    events bigint;
BEGIN
    -- Only one at a time drops it; whoever comes second finds nothing.
    DELETE FROM tenancy.usage_epochs e
     WHERE e.epoch = p_epoch AND e.epoch < (SELECT max(n.epoch) FROM tenancy.usage_epochs n);
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    WITH day AS (
        SELECT e.tenant_id, e.metric, (e.occurred_at AT TIME ZONE 'UTC')::date AS day, m.aggregation,
               CASE m.aggregation WHEN 'max' THEN max(e.amount) ELSE sum(e.amount) END::bigint AS amount, count(*) AS events
          FROM tenancy.usage_events e JOIN tenancy.metrics m ON m.key = e.metric
         WHERE e.epoch = p_epoch AND EXISTS (SELECT FROM tenancy.tenants t WHERE t.id = e.tenant_id)
         GROUP BY 1, 2, 3, m.aggregation
    ), kept AS (
        INSERT INTO tenancy.usage_days AS d (tenant_id, metric, day, amount, events)
        SELECT y.tenant_id, y.metric, y.day, y.amount, y.events FROM day y ORDER BY 1, 2, 3
        ON CONFLICT (tenant_id, metric, day) DO UPDATE
           SET amount = CASE WHEN EXISTS (SELECT FROM tenancy.metrics m WHERE m.key = d.metric AND m.aggregation = 'max')
                             THEN greatest(d.amount, excluded.amount) ELSE d.amount + excluded.amount END,
               events = d.events + excluded.events
    )
    SELECT coalesce(sum(y.events), 0) INTO events FROM day y;
    EXECUTE format('DROP TABLE tenancy.%I', 'usage_events_' || p_epoch);
    RETURN events;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.drop_usage_epoch FROM PUBLIC;

-- Records usage of many tenants as record_usage does, for a service that proves the context of each: p_contexts has, group
-- by group, what app.current_tenant_id would hold. The transaction's own context is as before afterwards.
CREATE FUNCTION tenancy.track_usages(
    p_contexts text[], p_tenants uuid[], p_metrics text[], p_days date[],
    p_group int[], p_amounts bigint[], p_keys text[], p_at timestamptz[])
RETURNS TABLE (ord bigint, outcome text, used bigint, limit_value bigint, period_start timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own  CONSTANT text := current_setting('app.current_tenant_id', true);
    each record;
BEGIN
    IF cardinality(p_contexts) IS DISTINCT FROM cardinality(p_tenants) THEN
        RAISE EXCEPTION 'every tenant needs a context' USING ERRCODE = 'insufficient_privilege';
    END IF;
    FOR each IN SELECT DISTINCT g.context, g.tenant FROM unnest(p_contexts, p_tenants) g (context, tenant) LOOP
        PERFORM set_config('app.current_tenant_id', coalesce(each.context, ''), true);
        IF tenancy.current_tenant_id() IS DISTINCT FROM each.tenant OR each.tenant IS NULL THEN
            RAISE EXCEPTION 'usage of tenant % can only be tracked in its own context', each.tenant
                USING ERRCODE = 'insufficient_privilege';
        END IF;
    END LOOP;
    PERFORM set_config('app.current_tenant_id', coalesce(own, ''), true);
    RETURN QUERY SELECT * FROM tenancy.record_usage(p_tenants, p_metrics, p_days, NULL, p_group, p_amounts, p_keys, p_at,
                                                    '-infinity', true);
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.track_usages FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION tenancy.track_usages TO %I', tenancy.role_name('app'));
END $$;
