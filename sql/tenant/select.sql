SELECT t.id, t.slug, t.name, t.status, t.plan, t.contact_email, t.organization_type, t.website_url, t.branding,
       t.settings,
       ARRAY(SELECT a.slug FROM tenancy.tenant_aliases a WHERE a.tenant_id = t.id ORDER BY a.created_at) AS "aliases!",
       t.created_at, t.updated_at, t.suspended_at, t.purge_after,
       (SELECT count(*) FROM tenancy.memberships m WHERE m.tenant_id = t.id) AS "user_count!",
       t.anchor_day
  FROM tenancy.tenants t
 WHERE ($1::uuid IS NULL OR t.id = $1)
   AND t.status = ANY ($2::text[])
   AND ($3::text IS NULL OR t.plan = $3)
   AND ($4::text IS NULL OR strpos(lower(concat_ws(' ', t.slug, t.name, t.contact_email)), lower($4)) > 0)
 ORDER BY t.slug
