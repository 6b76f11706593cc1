-- Hardens a tenant's table, or a view over such tables; $2 its unique keys only, which come first of all.
SELECT action AS "action!", statement, note FROM tenancy.harden($1::oid::regclass, $2) ORDER BY "position"
