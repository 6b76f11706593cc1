SELECT m.metric, m.relation::oid AS "relation!", coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), m.table_name) AS "table!",
       m.tenant_column, m.sum_column, m.attached_at, m.attached_by,
       CASE WHEN c.oid IS NULL THEN 'gone'
            WHEN tenancy.meter_stands(m.relation) AND tenancy.meter_sound(c.oid, m.tenant_column, m.sum_column)
            THEN 'counting' ELSE 'incomplete' END AS "state!"
  FROM tenancy.usage_meters m
  LEFT JOIN pg_class c ON c.oid = m.relation
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE $1::text IS NULL OR m.metric = $1
 ORDER BY m.metric, 3
