SELECT t.slug AS tenant, m.user_id, u.email, m.role, m.permissions, m.created_at, m.updated_at
  FROM tenancy.memberships m
  JOIN tenancy.users u ON u.id = m.user_id
  JOIN tenancy.tenants t ON t.id = m.tenant_id
 WHERE m.tenant_id = $1 AND ($2::text IS NULL OR m.role = $2)
   AND ($3::uuid IS NULL OR m.user_id = $3)
   AND ($4::text IS NULL OR u.email = $4)
 ORDER BY array_position(ARRAY['owner', 'admin', 'member', 'viewer'], m.role), u.email
