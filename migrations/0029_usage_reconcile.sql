-- Whether counters hold what they should.

-- What a counter should hold by its history: the ledger, the days that are no longer in it or never were, what is reserved,
-- and the corrections.
-- NULL where days cannot be told apart by period, because the day that the periods begin on was changed.
CREATE FUNCTION tenancy.usage_recorded(p_tenant uuid, p_metric text)
RETURNS TABLE (tenant_id uuid, metric text, period_start timestamptz, amount numeric)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH ledger AS MATERIALIZED (
        SELECT e.tenant_id, e.metric, e.period_start, sum(e.amount) AS total, max(e.amount) AS largest
          FROM tenancy.usage_events e
         WHERE (p_tenant IS NULL OR e.tenant_id = p_tenant) AND (p_metric IS NULL OR e.metric = p_metric)
         GROUP BY 1, 2, 3
    ), counter AS MATERIALIZED (
        SELECT k.tenant_id, k.metric, k.period_start, m.aggregation,
               k.period_start = tenancy.usage_period(m.reset, coalesce(t.anchor_day, m.anchor_day), k.period_start) AS regular,
               CASE m.reset WHEN 'daily' THEN k.period_start + interval '1 day'
                    WHEN 'monthly' THEN tenancy.usage_period('monthly', coalesce(t.anchor_day, m.anchor_day), k.period_start + interval '32 days')
                    ELSE 'infinity' END AS period_end
          FROM (SELECT c.tenant_id, c.metric, c.period_start FROM tenancy.usage_counters c
                 UNION SELECT l.tenant_id, l.metric, l.period_start FROM ledger l) k
          JOIN tenancy.tenants t ON t.id = k.tenant_id
          JOIN tenancy.metrics m ON m.key = k.metric
         WHERE (p_tenant IS NULL OR k.tenant_id = p_tenant) AND (p_metric IS NULL OR k.metric = p_metric)
    ), blurred AS (
        SELECT DISTINCT c.tenant_id, c.metric, c.period_start
          FROM counter c JOIN counter o ON o.tenant_id = c.tenant_id AND o.metric = c.metric
         WHERE NOT o.regular AND o.period_start > c.period_start - interval '31 days' AND o.period_start < c.period_end
    )
    SELECT c.tenant_id, c.metric, c.period_start,
           CASE WHEN b.tenant_id IS NOT NULL THEN NULL
                WHEN c.aggregation = 'max' THEN greatest(l.largest, d.largest, 0)
                ELSE coalesce(l.total, 0) + coalesce(d.total, 0) + coalesce(k.total, 0) + coalesce(h.total, 0) END
      FROM counter c
      LEFT JOIN blurred b ON b.tenant_id = c.tenant_id AND b.metric = c.metric AND b.period_start = c.period_start
      LEFT JOIN ledger l ON l.tenant_id = c.tenant_id AND l.metric = c.metric AND l.period_start = c.period_start
     CROSS JOIN LATERAL (SELECT sum(d.amount) AS total, max(d.amount) AS largest FROM tenancy.usage_days d
                          WHERE d.tenant_id = c.tenant_id AND d.metric = c.metric
                            AND d.day >= (c.period_start AT TIME ZONE 'UTC')::date AND d.day < (c.period_end AT TIME ZONE 'UTC')::date) d
     CROSS JOIN LATERAL (SELECT sum(k.amount) AS total FROM tenancy.usage_corrections k
                          WHERE k.tenant_id = c.tenant_id AND k.metric = c.metric AND k.period_start = c.period_start) k
     CROSS JOIN LATERAL (SELECT sum(h.amount) AS total FROM tenancy.usage_reservations h
                          WHERE h.tenant_id = c.tenant_id AND h.metric = c.metric AND h.period_start = c.period_start
                            AND h.state = 'open') h
$$;
REVOKE EXECUTE ON FUNCTION tenancy.usage_recorded FROM PUBLIC;

-- Counters that do not hold what they should: for a gauge that is metered what its tables hold, for admins the members who
-- are, for all else the history. Beside that how much the history lacks. All of it is seen by one snapshot.
CREATE FUNCTION tenancy.usage_drift(p_tenant uuid, p_metric text)
RETURNS TABLE (tenant_id uuid, metric text, period_start timestamptz, counted bigint, actual bigint, lacking bigint, basis text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH metric AS (
        SELECT m.key, CASE WHEN m.source = 'memberships' THEN 'memberships'
                           WHEN m.source = 'meter' AND m.kind = 'gauge' THEN 'tables' ELSE 'history' END AS basis
          FROM tenancy.metrics m
         WHERE p_metric IS NULL OR m.key = p_metric
    ), truth AS (
        SELECT r.tenant, u.metric, '-infinity'::timestamptz AS period, greatest(sum(r.amount), 0) AS amount
          FROM metric m
          JOIN tenancy.usage_meters u ON u.metric = m.key AND m.basis = 'tables'
          JOIN pg_class c ON c.oid = u.relation
         CROSS JOIN LATERAL tenancy.meter_reading(u.relation, u.tenant_column, u.sum_column) r
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
               coalesce(c.used, 0) AS counted, coalesce(t.amount, 0) AS actual, m.basis
          FROM (SELECT c.* FROM tenancy.usage_counters c WHERE p_tenant IS NULL OR c.tenant_id = p_tenant) c
          FULL JOIN truth t ON t.tenant = c.tenant_id AND t.metric = c.metric AND t.period = c.period_start
          JOIN metric m ON m.key = coalesce(c.metric, t.metric)
         -- Without a truth there is nothing to compare: a history that cannot be told, or a meter whose tables are gone.
         WHERE t.tenant IS NOT NULL OR m.basis = 'memberships'
            OR (m.basis = 'tables' AND EXISTS (SELECT FROM tenancy.usage_meters u JOIN pg_class k ON k.oid = u.relation WHERE u.metric = m.key))
    )
    SELECT c.tenant, c.key, c.period, c.counted, c.actual::bigint,
           (CASE c.basis WHEN 'history' THEN 0
                 WHEN 'memberships' THEN c.actual - c.counted
                 ELSE c.actual - coalesce((SELECT r.amount FROM tenancy.usage_recorded(c.tenant, c.key) r WHERE r.period_start = c.period), 0)
            END)::bigint, c.basis
      FROM compared c
     WHERE c.counted <> c.actual
     ORDER BY 1, 2, 3
$$;

REVOKE EXECUTE ON FUNCTION tenancy.usage_drift FROM PUBLIC;
