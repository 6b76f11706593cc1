-- What an online setup has to know of a table: its name, quoted, and how far its tenant column $2 is on the way to NOT NULL
-- by way of the constraint $3, which is proven (true), stands unproven (false) or does not stand.
SELECT c.oid AS "relation!", n.oid AS "schema!", c.relname::text AS "table!", format('%I.%I', n.nspname, c.relname) AS "name!",
       c.relkind = 'p' AS "partitioned!", a.attname::text AS "column!", a.attnotnull AS "not_null!",
       (SELECT k.convalidated FROM pg_constraint k
         WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conislocal AND k.conname = $3::text) AS "proven?"
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2::text AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.oid = $1::oid
