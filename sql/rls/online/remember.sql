-- Writes down what changed about a table since facts.sql.
SELECT tenancy.remember($2::text::tenancy.isolation_fact[], ARRAY(SELECT s FROM tenancy.isolation_state($1::oid::regclass) s))::text AS done
