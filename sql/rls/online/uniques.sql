-- The unique keys of the table $1 that hardening replaces, and how that is done online.
SELECT r.action, r.key::oid AS key, r.relation::oid AS relation, c.relnamespace AS schema, n.nspname::text AS schema_name,
       c.relname::text AS table, coalesce(quote_ident(n.nspname) || '.' || quote_ident(c.relname), '') AS "name!", r.spare, r.build, coalesce(r.ready, false) AS "ready!",
       coalesce(r.unfit, false) AS "unfit!", r.builder, r.columns, r.statements, coalesce(r.proofs, '{}') AS "proofs!",
       coalesce(r.touched, '{}')::oid[] AS "touched!", r.note, coalesce(r.caveats, '{}') AS "caveats!"
  FROM tenancy.online_uniques($1::oid::regclass) r
  LEFT JOIN pg_class c ON c.oid = r.relation
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
