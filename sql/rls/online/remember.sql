-- Writes down what changed about tables since facts.sql.
SELECT tenancy.remember($2::text::tenancy.isolation_fact[],
                        ARRAY(SELECT DISTINCT s FROM unnest($1::oid[]) t, tenancy.isolation_state(t::regclass) s))::text AS done
