UPDATE tenancy.tenants
   SET name = $2, plan = $3, contact_email = $4, organization_type = $5, website_url = $6, branding = $7,
       settings = $8, anchor_day = $9, updated_at = now()
 WHERE id = $1
