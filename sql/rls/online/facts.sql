-- The state of a table as text, for remember.sql.
SELECT ARRAY(SELECT s FROM tenancy.isolation_state($1::oid::regclass) s)::text AS "facts!"
