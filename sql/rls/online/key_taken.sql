-- Whether a relation or a constraint has this name in a schema: PostgreSQL gives a new unique key none that either has.
SELECT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = $1::oid AND c.relname = $2::text)
    OR EXISTS (SELECT FROM pg_constraint k WHERE k.connamespace = $1::oid AND k.conname = $2::text) AS "taken!"
