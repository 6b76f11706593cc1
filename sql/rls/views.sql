-- Views over tenants' tables.
SELECT relation::oid AS "relation!", name AS "name!" FROM tenancy.tenant_views()
