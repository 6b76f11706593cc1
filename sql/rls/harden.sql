-- Hardens a tenant's table, or a view over such tables.
SELECT action AS "action!", statement, note FROM tenancy.harden($1::oid::regclass) ORDER BY "position"
