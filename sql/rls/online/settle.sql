-- Brings what was written down of indexes and references of the tables $1 to what they are now: valid, or part of those of
-- the whole table.
WITH stands AS (
    SELECT s.relation, s.kind, s.object, s.detail FROM unnest($1::oid[]) t, tenancy.isolation_state(t::regclass) s
     WHERE s.kind IN ('index', 'constraint')
), gone AS (
    DELETE FROM tenancy.isolation_changes c
     WHERE c.relation = ANY ($1::oid[]) AND c.kind IN ('index', 'constraint') AND NOT c.taken
       AND NOT EXISTS (SELECT FROM stands s WHERE s.relation = c.relation AND s.kind = c.kind AND s.object = c.object)
)
UPDATE tenancy.isolation_changes c SET detail = s.detail
  FROM stands s
 WHERE c.relation = s.relation AND c.kind = s.kind AND c.object = s.object AND NOT c.taken AND c.detail <> s.detail
