-- Which of the tables $1 an interrupted online setup left unfinished: with the constraint $2, or with an index or a reference
-- of its making that is not valid, on them or on their partitions; or with a key that is not in its place yet, or a reference
-- that hardening has yet to prove.
WITH RECURSIVE parts AS (
    SELECT t.relation AS whole, t.relation FROM unnest($1::oid[]) AS t (relation)
    UNION
    SELECT p.whole, i.inhrelid FROM parts p
      JOIN pg_inherits i ON i.inhparent = p.relation
      JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
)
SELECT DISTINCT p.whole AS "relation!", false AS "hardening!"
  FROM parts p
 WHERE EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = p.relation AND k.conname = $2::text AND k.contype = 'c' AND k.conislocal)
    OR EXISTS (SELECT FROM tenancy.isolation_changes m
                 LEFT JOIN pg_constraint k ON k.conrelid = m.relation AND k.conname = m.object AND m.kind = 'constraint'
                                           AND k.confrelid = 'tenancy.tenants'::regclass
                 LEFT JOIN (pg_index i JOIN pg_class c ON c.oid = i.indexrelid)
                        ON i.indrelid = m.relation AND c.relname = m.object AND m.kind = 'index'
                WHERE m.relation = p.relation AND NOT m.taken AND m.object !~ '^tenancy_online_key_'
                  AND (NOT k.convalidated OR NOT i.indisvalid))
UNION ALL
SELECT DISTINCT t.relation, true
  FROM unnest($1::oid[]) AS t (relation)
 WHERE t.relation IN (SELECT s.relation FROM tenancy.online_spares() s UNION ALL SELECT u.relation FROM tenancy.online_unproven() u)
 ORDER BY 1, 2
