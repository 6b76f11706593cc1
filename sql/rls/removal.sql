-- What would undo setup on a table once some others are undone, changing nothing.
SELECT action AS "action!", statement, note
  FROM tenancy.removal($1::oid::regclass, $2::oid[]::regclass[]) ORDER BY "position"
