SELECT EXISTS (SELECT FROM tenancy.memberships WHERE role = 'admin') AS "any!"
