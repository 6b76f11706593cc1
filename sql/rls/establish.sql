-- Carries out what a table lacks.
SELECT action AS "action!", statement, note
  FROM tenancy.establish($1::oid::regclass, $2, $3, $4) ORDER BY "position"
