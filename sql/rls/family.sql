-- A table with the partitions and children under it.
SELECT relation::oid AS "relation!" FROM tenancy.family($1::oid::regclass)
