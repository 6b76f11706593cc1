-- What a table lacks, changing nothing.
SELECT action AS "action!", statement, note
  FROM tenancy.missing($1::oid::regclass, $2, $3, $4) ORDER BY "position"
