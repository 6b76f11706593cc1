-- Tenants by slug and by id, with their plans.
SELECT t.id, t.slug, t.plan FROM tenancy.tenants t WHERE t.slug = ANY ($1::text[]) OR t.id = ANY ($2::uuid[])
