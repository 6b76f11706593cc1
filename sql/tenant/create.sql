-- Nothing comes back where the slug is taken, as a slug or as an earlier one.
INSERT INTO tenancy.tenants (slug, name, plan, contact_email, organization_type, website_url, anchor_day)
SELECT $1, $2, $3, $4, $5, $6, $7
 WHERE NOT EXISTS (SELECT FROM tenancy.tenant_aliases a WHERE a.slug = $1)
ON CONFLICT (slug) DO NOTHING
RETURNING id
