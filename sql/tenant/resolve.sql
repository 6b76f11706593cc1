SELECT t.id AS "id!" FROM tenancy.tenants t WHERE t.id = $1 OR t.slug = $2
UNION ALL
SELECT a.tenant_id FROM tenancy.tenant_aliases a WHERE a.slug = $2
