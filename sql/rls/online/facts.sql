-- The state of tables as text, for remember.sql.
SELECT ARRAY(SELECT DISTINCT s FROM unnest($1::oid[]) t, tenancy.isolation_state(t::regclass) s)::text AS "facts!"
