-- What setup changed something about, partitions and children before their parents.
SELECT relation::oid AS "relation!", name AS "name!" FROM tenancy.under_isolation($1::oid[]::regclass[])
