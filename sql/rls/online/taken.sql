-- Whether a relation, or a constraint of another making than setup's, has this name in a schema.
SELECT EXISTS (SELECT FROM pg_class c WHERE $3::boolean AND c.relnamespace = $1::oid AND c.relname = $2::text)
    OR EXISTS (SELECT FROM pg_constraint k
                WHERE NOT $3::boolean AND k.connamespace = $1::oid AND k.conname = $2::text
                  AND NOT EXISTS (SELECT FROM tenancy.isolation_changes m
                                   WHERE m.relation = k.conrelid AND m.kind = 'constraint' AND m.object = k.conname
                                     AND NOT m.taken)) AS "taken!"
