-- Metering that nobody can turn against the control plane: what the triggers and whoever compares read.

-- What a trigger was made with: a transaction whose snapshot does not show it cannot know what the trigger is to count.
-- They are kept, because a partition that leaves its table takes its triggers along.
CREATE TABLE tenancy.usage_meter_stamps (
    stamp   bigint PRIMARY KEY,
    made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenancy.usage_meter_stamps IS 'Each time that the triggers of a metered table were made';

-- Ends a statement because of a metered column: of its type where one is given, else of a value below zero.
CREATE FUNCTION tenancy.refuse_metered(p_relation oid, p_column text, p_type regtype DEFAULT NULL) RETURNS text
LANGUAGE plpgsql PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_type IS NULL THEN
        RAISE EXCEPTION 'column % of % is metered, and cannot be negative', quote_ident(p_column), p_relation::regclass
            USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    RAISE EXCEPTION 'column % of % is metered, and cannot be of type %', quote_ident(p_column), p_relation::regclass, p_type
        USING ERRCODE = 'datatype_mismatch',
              HINT = 'give it a type that can be metered, or detach the meter with `tenantctl usage meter detach`';
END $$;

-- Whether a column of a type can be read as another: one of uuid, text, varchar and bpchar, or of smallint, integer and bigint, or
-- a domain over one. Reading a domain as what it is over runs neither its CHECK nor a cast, which PostgreSQL ignores for domains.
CREATE FUNCTION tenancy.reads_as(p_type oid, p_as text) RETURNS boolean
-- Its callers have set their search path.
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM pg_catalog.pg_type t
                    WHERE t.oid = p_type
                      AND CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
                          = ANY (CASE p_as WHEN 'uuid' THEN '{2950,25,1043,1042}' ELSE '{21,23,20}' END::oid[]));
END $$;

-- SQL that reads a metered column as another type. Whoever owns a column's type decides what a cast from it runs, and this runs
-- as the control plane or as an operator. So no cast is reached but from types that are PostgreSQL's. Only the statement
-- itself knows the column's type: the catalogue, asked with a snapshot, may tell an older one.
CREATE FUNCTION tenancy.metered_column(p_relation oid, p_column text, p_as text, p_positive boolean) RETURNS text
    LANGUAGE sql STABLE
    RETURN format(CASE WHEN p_positive
                       THEN 'CASE WHEN pg_typeof(%1$I) = ANY (%2$L::oid[]) OR tenancy.reads_as(pg_typeof(%1$I), %3$L) THEN '
                            'CASE WHEN %1$I::%3$s < 0 THEN tenancy.refuse_metered(%4$s, %1$L)::%3$s ELSE %1$I::%3$s END '
                            'ELSE tenancy.refuse_metered(%4$s, %1$L, pg_typeof(%1$I))::%3$s END'
                       ELSE 'CASE WHEN pg_typeof(%1$I) = ANY (%2$L::oid[]) OR tenancy.reads_as(pg_typeof(%1$I), %3$L) THEN %1$I::%3$s '
                            'ELSE tenancy.refuse_metered(%4$s, %1$L, pg_typeof(%1$I))::%3$s END' END,
                  -- Those that are no domains are told at once.
                  p_column, CASE p_as WHEN 'uuid' THEN '{2950,25,1043,1042}' ELSE '{21,23,20}' END, p_as, p_relation);

-- Whether the columns of a meter are there, and can be metered.
CREATE FUNCTION tenancy.meter_sound(p_relation oid, p_tenant_column text, p_sum_column text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) = 1 + (p_sum_column IS NOT NULL)::int
      FROM (VALUES (p_tenant_column, 'uuid'), (p_sum_column, 'bigint')) x (name, wanted)
      JOIN pg_attribute a ON a.attrelid = p_relation AND a.attname = x.name AND a.attnum > 0 AND NOT a.attisdropped
       -- One that is computed when it is read is not in what a trigger sees.
       AND a.attgenerated <> 'v'
     WHERE tenancy.reads_as(a.atttypid, x.wanted)
$$;

-- As before, but that columns are read safely, nothing that is added to a sum is negative, and a metered table that became a part
-- of another one is counted for that alone.
CREATE OR REPLACE FUNCTION tenancy.meter_query(p_relation oid, p_op text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- In plpgsql, which keeps the plan.
    RETURN (WITH RECURSIVE above AS (
        SELECT p_relation AS relation
         UNION
        SELECT i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.relation
    ), meter AS (
        SELECT DISTINCT ON (m.metric) m.metric, k.kind = 'counter' AS grows, tenancy.metered_column(p_relation, m.tenant_column, 'uuid', false) AS tenant,
               CASE WHEN m.sum_column IS NULL THEN 'count(*)::numeric'
                    ELSE format('sum(%s)', tenancy.metered_column(p_relation, m.sum_column, 'bigint', true)) END AS more,
               CASE WHEN m.sum_column IS NULL THEN 'count(*)::numeric'
                    ELSE format('sum(%s)', tenancy.metered_column(p_relation, m.sum_column, 'bigint', false)) END AS less
          FROM tenancy.usage_meters m JOIN tenancy.metrics k ON k.key = m.metric
         WHERE m.relation IN (SELECT a.relation FROM above a)
         ORDER BY m.metric, m.relation = p_relation
    )
    SELECT 'SELECT array_agg(d.tenant ORDER BY d.tenant, d.metric), array_agg(d.metric ORDER BY d.tenant, d.metric),'
           || ' array_agg(d.amount ORDER BY d.tenant, d.metric) FROM (SELECT r.tenant, r.metric, sum(r.amount) AS amount FROM ('
           || string_agg(CASE p_op
                  WHEN 'INSERT' THEN format('SELECT %s AS tenant, %L::text AS metric, %s AS amount FROM added GROUP BY 1', tenant, metric, more)
                  WHEN 'DELETE' THEN format('SELECT %s AS tenant, %L::text AS metric, -%s AS amount FROM gone GROUP BY 1', tenant, metric, less)
                  -- What only grows takes nothing back: neither from a tenant that lost rows, nor where a sum became less.
                  ELSE format('SELECT u.tenant, %2$L::text AS metric, sum(u.amount) AS amount FROM ('
                              'SELECT %1$s AS tenant, %3$s AS amount FROM added GROUP BY 1 UNION ALL '
                              'SELECT %1$s, -%4$s FROM gone GROUP BY 1) u GROUP BY 1', tenant, metric, more, less)
                  END || CASE WHEN grows THEN format(' HAVING %s > 0', CASE p_op WHEN 'UPDATE' THEN 'sum(u.amount)' ELSE more END)
                              ELSE '' END, ' UNION ALL ')
           || ') r WHERE r.tenant IS NOT NULL GROUP BY 1, 2 HAVING sum(r.amount) <> 0) d'
      FROM meter
     WHERE NOT (grows AND p_op = 'DELETE'));
END $$;

-- Ends a transaction whose snapshot is older than the trigger that fires in it: what it writes would go uncounted, or be
-- counted as something else. A trigger of an older version says nothing.
CREATE FUNCTION tenancy.check_meter_stamp(p_stamp text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_stamp IS NOT NULL AND NOT EXISTS (SELECT FROM tenancy.usage_meter_stamps s WHERE s.stamp = p_stamp::bigint) THEN
        RAISE EXCEPTION 'the table is metered since after this transaction began'
            USING ERRCODE = 'serialization_failure', HINT = 'try the transaction again';
    END IF;
END $$;

-- As before, but that whatever is given back is accepted: more than a bigint holds, too.
CREATE OR REPLACE FUNCTION tenancy.count_metered(p_tenants uuid[], p_metrics text[], p_amounts numeric[]) RETURNS void
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
    IF EXISTS (SELECT FROM unnest(p_amounts) x (amount) WHERE x.amount > 9223372036854775807) THEN
        RAISE EXCEPTION 'what was metered does not fit a bigint' USING ERRCODE = 'numeric_value_out_of_range';
    END IF;
    -- No counter holds more than that to give back.
    amounts := ARRAY(SELECT greatest(x.amount, -9223372036854775807) FROM unnest(p_amounts) WITH ORDINALITY x (amount, n) ORDER BY x.n)::bigint[];
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

CREATE OR REPLACE FUNCTION tenancy.meter_usage() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    query   CONSTANT text := tenancy.meter_query(TG_RELID, TG_OP);
    tenants uuid[];
    metrics text[];
    amounts numeric[];
BEGIN
    PERFORM tenancy.check_meter_stamp(TG_ARGV[0]);
    IF query IS NULL THEN
        RETURN NULL;
    END IF;
    BEGIN
        EXECUTE query INTO tenants, metrics, amounts;
    EXCEPTION
        WHEN undefined_column THEN
            RAISE EXCEPTION 'a column that %.% is metered by is gone', quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME)
                USING ERRCODE = 'undefined_column', DETAIL = SQLERRM,
                      HINT = 'detach the meter with `tenantctl usage meter detach`, or attach it again with the new name';
        -- From its type there is no way to the one that is needed.
        WHEN cannot_coerce THEN
            RAISE EXCEPTION 'a column that %.% is metered by is of another type now', quote_ident(TG_TABLE_SCHEMA), quote_ident(TG_TABLE_NAME)
                USING ERRCODE = 'datatype_mismatch', DETAIL = SQLERRM,
                      HINT = 'give it a type that can be metered, or detach the meter with `tenantctl usage meter detach`';
    END;
    IF tenants IS NOT NULL THEN
        PERFORM tenancy.count_metered(tenants, metrics, amounts);
    END IF;
    RETURN NULL;
END $$;

-- As before, but that children of an ordinary table count as rows that may stay: TRUNCATE ONLY leaves them, and a trigger is
-- not told. A table that is gone holds nothing.
CREATE OR REPLACE FUNCTION tenancy.meter_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    meter   record;
    tenants uuid[];
    metrics text[];
    amounts numeric[];
BEGIN
    PERFORM tenancy.check_meter_stamp(TG_ARGV[0]);
    FOR meter IN
        SELECT m.metric, m.relation = TG_RELID
               AND NOT EXISTS (SELECT FROM tenancy.usage_meters o JOIN pg_class c ON c.oid = o.relation
                                WHERE o.metric = m.metric AND o.relation <> m.relation)
               AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent
                                WHERE i.inhparent = TG_RELID AND c.relkind = 'r') AS whole
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

-- As before, but for what the table's owner could have made of it since: a view, or a column of a type with casts of its own.
CREATE OR REPLACE FUNCTION tenancy.meter_reading(p_relation regclass, p_tenant_column text, p_sum_column text)
RETURNS TABLE (tenant uuid, amount numeric)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- NULL where the server does not know it (before 15.8).
    restricted CONSTANT text := current_setting('restrict_nonsystem_relation_kind', true);
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid IN (SELECT tenancy.meter_family(p_relation)) AND c.relkind NOT IN ('r', 'p')) THEN
        RAISE EXCEPTION '% is no longer a table that can be metered', p_relation USING ERRCODE = 'wrong_object_type';
    END IF;
    IF EXISTS (SELECT FROM tenancy.meter_family(p_relation) f WHERE row_security_active(f)) THEN
        RAISE EXCEPTION '% cannot see all rows of %', current_user, p_relation
            USING ERRCODE = 'TN010', HINT = 'connect as a role with BYPASSRLS, or as a superuser';
    END IF;
    -- What has the name by the time that it is looked up may be another thing than what was looked at above.
    IF restricted IS NOT NULL THEN
        PERFORM set_config('restrict_nonsystem_relation_kind', 'view, foreign-table', true);
    END IF;
    RETURN QUERY EXECUTE format('SELECT %s, %s FROM %s GROUP BY 1',
        tenancy.metered_column(p_relation, p_tenant_column, 'uuid', false),
        CASE WHEN p_sum_column IS NULL THEN 'count(*)::numeric'
             ELSE format('coalesce(sum(%s), 0)', tenancy.metered_column(p_relation, p_sum_column, 'bigint', false)) END,
        p_relation);
    IF restricted IS NOT NULL THEN
        PERFORM set_config('restrict_nonsystem_relation_kind', restricted, true);
    END IF;
EXCEPTION WHEN cannot_coerce THEN
    RAISE EXCEPTION 'a column that % is metered by is of another type now', p_relation USING ERRCODE = 'datatype_mismatch', DETAIL = SQLERRM;
END $$;

-- As before, but that the amount is that of the tenant that is named, rows of no tenant never are too many to be told, and those of a
-- table that became a part of another one are not read twice.
CREATE OR REPLACE FUNCTION tenancy.meter_total(p_metric text, p_only regclass, OUT tenants uuid[], OUT amounts numeric[], OUT unassigned bigint,
                                    OUT unknowns bigint, OUT unknown uuid, OUT wrong uuid, OUT wrong_amount numeric)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH total AS MATERIALIZED (
        SELECT r.tenant, sum(r.amount) AS amount
          FROM tenancy.usage_meters m
          JOIN pg_class c ON c.oid = m.relation
         CROSS JOIN LATERAL tenancy.meter_reading(m.relation, m.tenant_column, m.sum_column) r
         WHERE m.metric = p_metric AND (p_only IS NULL OR m.relation = p_only)
           AND NOT EXISTS (SELECT FROM tenancy.usage_meters o WHERE o.metric = m.metric AND o.relation <> m.relation
                              AND m.relation IN (SELECT tenancy.meter_family(o.relation)))
         GROUP BY 1
    ), wrong AS (
        SELECT x.tenant, x.amount FROM total x
         WHERE x.tenant IS NOT NULL AND x.amount NOT BETWEEN 0 AND 9223372036854775807
         ORDER BY x.tenant LIMIT 1
    )
    SELECT array_agg(x.tenant ORDER BY x.tenant) FILTER (WHERE t.id IS NOT NULL),
           array_agg(x.amount ORDER BY x.tenant) FILTER (WHERE t.id IS NOT NULL),
           greatest(least(coalesce(sum(x.amount) FILTER (WHERE x.tenant IS NULL), 0), 9223372036854775807), -9223372036854775807)::bigint,
           count(*) FILTER (WHERE x.tenant IS NOT NULL AND t.id IS NULL),
           min(x.tenant::text) FILTER (WHERE x.tenant IS NOT NULL AND t.id IS NULL)::uuid,
           (SELECT w.tenant FROM wrong w), (SELECT w.amount FROM wrong w)
      FROM total x LEFT JOIN tenancy.tenants t ON t.id = x.tenant
$$;

-- Whether every table of a family has its four triggers, and they fire; whether a crash leaves it what was counted; and
-- whether what is written to it is counted by this meter alone, not by one of a table above it as well.
CREATE OR REPLACE FUNCTION tenancy.meter_stands(p_relation regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH family AS MATERIALIZED (SELECT f.relation FROM tenancy.meter_family(p_relation) f (relation))
    SELECT NOT EXISTS (
        SELECT FROM family f
         WHERE (SELECT count(*) FROM pg_trigger t
                 WHERE t.tgrelid = f.relation AND t.tgenabled IN ('O', 'A')
                   AND t.tgfoid IN ('tenancy.meter_usage'::regproc, 'tenancy.meter_truncate'::regproc)) <> 4
            OR EXISTS (SELECT FROM pg_class c WHERE c.oid = f.relation AND (c.relkind NOT IN ('r', 'p') OR c.relpersistence <> 'p'))
            OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = f.relation AND i.inhparent NOT IN (SELECT o.relation FROM family o)))
$$;

REVOKE EXECUTE ON FUNCTION tenancy.refuse_metered, tenancy.reads_as, tenancy.metered_column, tenancy.meter_sound,
    tenancy.check_meter_stamp FROM PUBLIC;
