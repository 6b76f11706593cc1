INSERT INTO tenancy.metrics AS m (key, name, unit, kind, reset, aggregation, source, default_limit, default_soft, anchor_day,
                                  position)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, coalesce(max(x.position) + 1, 0) FROM tenancy.metrics x
ON CONFLICT (key) DO UPDATE
   SET name = excluded.name, unit = excluded.unit, kind = excluded.kind, reset = excluded.reset,
       aggregation = excluded.aggregation, source = excluded.source, default_limit = excluded.default_limit,
       default_soft = excluded.default_soft, anchor_day = excluded.anchor_day
