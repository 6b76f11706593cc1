-- Many events: most batches need no decision event by event, and answers come as arrays.

DROP FUNCTION tenancy.track_usages, tenancy.record_usage;
DROP AGGREGATE tenancy.admitted(bigint, bigint, text, bigint, boolean);
DROP FUNCTION tenancy.admit_next;

-- One amount after the other, each admitted if it fits what those before it left. What is given back leaves the floor.
CREATE FUNCTION tenancy.admit_next(
    p_state bigint, p_start bigint, p_amount bigint, p_aggregation text, p_limit bigint, p_soft boolean, p_floor bigint)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    state CONSTANT bigint := coalesce(p_state, p_start);
BEGIN
    RETURN CASE WHEN NOT tenancy.usage_fits(CASE WHEN p_amount < 0 THEN state - p_floor ELSE state END, p_amount, p_aggregation, p_limit, p_soft)
                THEN state
                WHEN p_aggregation = 'max' THEN greatest(state, p_amount)
                ELSE state + p_amount END;
END $$;
CREATE AGGREGATE tenancy.admitted(bigint, bigint, text, bigint, boolean, bigint) (SFUNC = tenancy.admit_next, STYPE = bigint);
REVOKE EXECUTE ON FUNCTION tenancy.admit_next, tenancy.admitted FROM PUBLIC;

-- Records many events: in the order in which they come, each if the limit allows it after those before it, all of them or,
-- where an error is raised, none. Events of one tenant, metric and day of UTC are a group (p_group counts from 1), so that
-- what they have in common is looked up once. p_environments has a group's limit from the caller's environment, as
-- admit_usage does. The answer has every event with p_all, otherwise those that were not just accepted: its number from 1,
-- the outcome, what was used then, the limit, and since when it counts (NULL for ever). Outcomes beside track_usage's:
-- conflict (the key was used for something else), unknown_tenant, unknown_metric, inactive (the tenant is), not_reported (the
-- metric is counted from elsewhere), too_old (before p_oldest, or what was pruned), too_new, invalid_amount, invalid_key.
--
-- Counters are locked first, in the order of their key, so that the figures that everything is decided by stay. Keys are
-- expected to be new, and limits to hold: where one turns out not to, what was written is undone and done again, with a look
-- at each key and a decision for each event.
CREATE FUNCTION tenancy.record_usage(
    p_tenants uuid[], p_metrics text[], p_days date[], p_environments bigint[],
    p_group int[], p_amounts bigint[], p_keys text[], p_at timestamptz[], p_oldest timestamptz, p_all boolean,
    OUT ords bigint[], OUT outcomes text[], OUT useds bigint[], OUT limits bigint[], OUT answered timestamptz[])
-- Plans are made once a session, and how many rows each step has is known to nobody beforehand: a table that is empty then
-- would be read from end to end when it has millions of rows. So rows are looked up one by one, in subqueries that PostgreSQL
-- does not turn into joins. Without nested loops a plan seems costly, and compiling it would take seconds.
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
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
    -- What of it is reserved, and cannot be released.
    floors   bigint[];
    -- The metrics by name, and each group's among them.
    names    text[];
    named    int[];
    expected int;
    locked   int;
    -- Whether every key is looked for at once: where there is an older epoch, or one of some keys is there already.
    look     boolean := EXISTS (SELECT FROM tenancy.usage_epochs e WHERE e.epoch <> current)
                     OR EXISTS (SELECT FROM generate_series(1, cardinality(p_keys), 1 + cardinality(p_keys) / 8) n
                                  CROSS JOIN LATERAL (SELECT FROM tenancy.usage_events e
                                                      WHERE e.tenant_id = p_tenants[p_group[n]] AND e.key = p_keys[n] LIMIT 1) e);
    events   CONSTANT int := cardinality(p_group);
    -- Whether each event is one that its limit alone decides, and what is used after each if all of them fit.
    plain    boolean;
    afters   bigint[];
    counted  int[];
    sums     bigint[];
    peaks    bigint[];
    each     record;
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
                          LEFT JOIN LATERAL (SELECT t.id, t.status, t.anchor_day FROM tenancy.tenants t
                                              WHERE t.id = x.tenant OFFSET 0) t ON true
                          LEFT JOIN tenancy.metrics m ON m.key = x.metric) g) r;

        -- The first use in a period, as in admit_usage.
        IF EXISTS (SELECT FROM unnest(p_tenants, p_metrics, periods, sound) x (tenant, metric, period, sound)
                    WHERE x.sound AND (
                        SELECT true FROM tenancy.usage_counters c
                         WHERE c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period) IS NULL) THEN
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
        PERFORM FROM (SELECT x.tenant, x.metric, x.period
                        FROM unnest(p_tenants, p_metrics, periods, sound, counters) WITH ORDINALITY x (tenant, metric, period, sound, counter, g)
                       WHERE x.sound AND x.g = x.counter
                       ORDER BY 1, 2, 3) x
          CROSS JOIN LATERAL (SELECT FROM tenancy.usage_counters c
                               WHERE c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period
                                 FOR NO KEY UPDATE) c;
        GET DIAGNOSTICS locked = ROW_COUNT;
        -- A tenant that was purged meanwhile took its counters with it, and a metric may be metered now.
        EXIT WHEN locked = expected
              AND NOT EXISTS (SELECT FROM unnest(p_metrics, sound) x (metric, sound) JOIN tenancy.metrics m ON m.key = x.metric
                               WHERE x.sound AND m.source <> 'reported');
    END LOOP;

    -- What is reserved in vain makes room.
    PERFORM tenancy.reclaim_usage(r.tenant_id, r.metric, r.period_start)
       FROM (SELECT DISTINCT r.tenant_id, r.metric, r.period_start
               FROM unnest(p_tenants, p_metrics, periods, sound) x (tenant, metric, period, sound)
              CROSS JOIN LATERAL (SELECT r.tenant_id, r.metric, r.period_start FROM tenancy.usage_reservations r
                                   WHERE r.tenant_id = x.tenant AND r.metric = x.metric AND r.period_start = x.period
                                     AND r.state = 'open' AND r.expires_at <= now() LIMIT 1) r
              WHERE x.sound) r;

    names := ARRAY(SELECT DISTINCT unnest(p_metrics));
    SELECT array_agg(coalesce(c.used, 0) ORDER BY x.g), array_agg(coalesce(f.limit_value, 9223372036854775807) ORDER BY x.g),
           array_agg(coalesce(f.soft, false) ORDER BY x.g), array_agg(coalesce(m.aggregation = 'max', false) ORDER BY x.g),
           array_agg(coalesce(array_position(names, x.metric), 0) ORDER BY x.g), array_agg(r.amount ORDER BY x.g)
      INTO starts, tops, softs, maxima, named, floors
      FROM unnest(p_tenants, p_metrics, periods, p_environments) WITH ORDINALITY x (tenant, metric, period, environment, g)
      LEFT JOIN tenancy.metrics m ON m.key = x.metric
      LEFT JOIN LATERAL (SELECT c.* FROM tenancy.usage_counters c
                          WHERE c.tenant_id = x.tenant AND c.metric = x.metric AND c.period_start = x.period OFFSET 0) c ON true
     CROSS JOIN LATERAL tenancy.limit_in_force(c.limit_value, c.soft, c.override_value, c.override_soft,
                                               c.override_until, x.environment) f
     CROSS JOIN LATERAL (SELECT coalesce(sum(r.amount), 0)::bigint AS amount FROM tenancy.usage_reservations r
                          WHERE r.tenant_id = x.tenant AND r.metric = x.metric AND r.period_start = x.period AND r.state = 'open') r;

    plain := NOT EXISTS (SELECT FROM unnest(p_group, p_amounts, p_at) i (g, amount, at)
                          WHERE NOT sound[i.g] OR maxima[i.g] OR i.amount IS NULL OR i.amount = 0 OR i.amount = -9223372036854775808
                             OR (i.amount < 0 AND grows[i.g]) OR i.at < oldest OR i.at > newest);
    IF plain AND look THEN
        SELECT array_agg(s.ord), array_agg(CASE WHEN s.same THEN 'duplicate' ELSE 'conflict' END), array_agg(s.used),
               array_agg(s.limit_value), array_agg(nullif(s.period_start, '-infinity'))
          INTO ords, outcomes, useds, limits, answered
          FROM (SELECT i.ord, l.metric = names[named[i.g]] AND l.amount = i.amount AS same, l.used, l.limit_value, l.period_start
                  FROM unnest(p_group, p_amounts, p_keys) WITH ORDINALITY i (g, amount, key, ord)
                 CROSS JOIN LATERAL (SELECT l.metric, l.amount, l.used, l.limit_value, l.period_start FROM tenancy.usage_events l
                                      WHERE l.tenant_id = p_tenants[i.g] AND l.key = i.key LIMIT 1) l) s;
        -- A replay.
        IF cardinality(ords) = events THEN
            RETURN;
        END IF;
    END IF;
    -- All of them new, and within their limits: most batches are.
    IF plain AND ords IS NULL THEN
        BEGIN
            SELECT array_agg(e.after ORDER BY e.ord), bool_and(CASE WHEN e.amount < 0 THEN e.after >= floors[e.counter] ELSE e.after <= tops[e.counter] END)
              INTO afters, plain
              FROM (SELECT i.ord, i.amount, counters[i.g] AS counter,
                           starts[counters[i.g]] + tenancy.running_sum(i.amount) OVER (PARTITION BY counters[i.g] ORDER BY i.ord) AS after
                      FROM unnest(p_group, p_amounts) WITH ORDINALITY i (g, amount, ord)) e;
            IF plain THEN
                INSERT INTO tenancy.usage_events
                    (epoch, tenant_id, metric, amount, key, occurred_at, period_start, used, limit_value)
                SELECT current, p_tenants[i.g], names[named[i.g]], i.amount, i.key, i.at, periods[i.g], i.after,
                       nullif(tops[counters[i.g]], 9223372036854775807)
                  FROM unnest(p_group, p_amounts, p_keys, p_at, afters) i (g, amount, key, at, after);
                FOR each IN SELECT counters[i.g] AS counter, sum(i.amount)::bigint AS amount
                              FROM unnest(p_group, p_amounts) i (g, amount) GROUP BY 1 LOOP
                    UPDATE tenancy.usage_counters u SET used = u.used + each.amount, updated_at = now()
                     WHERE u.tenant_id = p_tenants[each.counter] AND u.metric = names[named[each.counter]]
                       AND u.period_start = periods[each.counter];
                END LOOP;
                IF p_all THEN
                    ords := ARRAY(SELECT generate_series(1, events));
                    outcomes := array_fill('accepted'::text, ARRAY[events]);
                    useds := afters;
                    limits := ARRAY(SELECT nullif(tops[counters[i.g]], 9223372036854775807) FROM unnest(p_group) i (g));
                    answered := ARRAY(SELECT nullif(periods[i.g], '-infinity') FROM unnest(p_group) i (g));
                END IF;
                RETURN;
            END IF;
        -- A key that was there, or twice among these; one too long; more than a counter can hold.
        EXCEPTION WHEN unique_violation OR check_violation OR numeric_value_out_of_range THEN
            NULL;
        END;
    END IF;

    LOOP
        BEGIN
            -- No loop within a loop.
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
                 WHERE e.verdict IS NULL
            ), once AS MATERIALIZED (
                SELECT e.ord, e.counter, e.amount, min(e.ord) OVER (PARTITION BY p_tenants[e.g], e.key) AS first
                  FROM event e
                 WHERE e.verdict IS NULL AND e.key IS NOT NULL AND NOT EXISTS (SELECT FROM seen s WHERE s.ord = e.ord)
            ), fresh AS NOT MATERIALIZED (
                SELECT e.ord, e.counter, e.amount, e.key, e.at FROM event e
                 WHERE e.verdict IS NULL
                   AND (e.key IS NULL OR e.ord IN (SELECT o.ord FROM once o WHERE o.first = o.ord))
            ), fitting AS MATERIALIZED (
                -- In any order: no sum of a part of them is above the first or below the second.
                SELECT t.counter
                  FROM (SELECT f.counter, coalesce(sum(f.amount) FILTER (WHERE f.amount > 0), 0) AS more,
                               coalesce(sum(f.amount) FILTER (WHERE f.amount < 0), 0) AS less
                          FROM fresh f GROUP BY f.counter) t
                 WHERE NOT maxima[t.counter] AND starts[t.counter] + t.less >= floors[t.counter]
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
                                                     tops[f.counter], softs[f.counter], floors[f.counter])
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
                           array_agg(a.limit_value) AS limits, array_agg(nullif(a.period, '-infinity')) AS answered
                      FROM told a WHERE p_all OR a.outcome <> 'accepted') t,
                   (SELECT array_agg(n.counter) AS counted, array_agg(n.amount) AS sums, array_agg(n.most) AS peaks
                      FROM (SELECT d.counter, sum(d.amount)::bigint AS amount, max(d.amount) AS most
                              FROM decided d WHERE d.fits GROUP BY d.counter) n) n;
            PERFORM set_config('enable_nestloop', nested, true);
            EXIT;
        -- Somebody else has just recorded one of the keys, for another metric.
        EXCEPTION WHEN unique_violation THEN
            IF current_setting('transaction_isolation') <> 'read committed' THEN
                RAISE EXCEPTION 'a key was recorded since this transaction began'
                    USING ERRCODE = 'serialization_failure', HINT = 'run the transaction again';
            END IF;
        END;
    END LOOP;
    FOR each IN SELECT n.counter, n.amount, n.most FROM unnest(counted, sums, peaks) n (counter, amount, most) LOOP
        UPDATE tenancy.usage_counters u
           SET used = CASE WHEN maxima[each.counter] THEN greatest(u.used, each.most) ELSE u.used + each.amount END, updated_at = now()
         WHERE u.tenant_id = p_tenants[each.counter] AND u.metric = names[named[each.counter]]
           AND u.period_start = periods[each.counter];
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.record_usage FROM PUBLIC;


-- Records usage of many tenants as record_usage does, for a service that proves the context of each: p_contexts has, group
-- by group, what app.current_tenant_id would hold. The transaction's own context is as before afterwards.
CREATE FUNCTION tenancy.track_usages(
    p_contexts text[], p_tenants uuid[], p_metrics text[], p_days date[],
    p_group int[], p_amounts bigint[], p_keys text[], p_at timestamptz[],
    OUT ords bigint[], OUT outcomes text[], OUT useds bigint[], OUT limits bigint[], OUT answered timestamptz[])
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
    SELECT * INTO ords, outcomes, useds, limits, answered
      FROM tenancy.record_usage(p_tenants, p_metrics, p_days, NULL, p_group, p_amounts, p_keys, p_at, '-infinity', true);
END $$;
REVOKE EXECUTE ON FUNCTION tenancy.track_usages FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION tenancy.track_usages TO %I', tenancy.role_name('app'));
END $$;
