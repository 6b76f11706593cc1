SELECT p.key, p.name, p.is_default,
       ARRAY(SELECT f.key FROM tenancy.plan_features pf JOIN tenancy.features f ON f.key = pf.feature
              WHERE pf.plan = p.key ORDER BY f.position, f.key) AS "features!",
       (SELECT count(*) FROM tenancy.tenants t WHERE t.plan = p.key AND t.status <> 'deleted') AS "tenant_count!"
  FROM tenancy.plans p
 ORDER BY p.position, p.key
