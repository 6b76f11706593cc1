-- Undoes what setup made of a table.
SELECT action AS "action!", statement, note FROM tenancy.dismantle($1::oid::regclass) ORDER BY "position"
