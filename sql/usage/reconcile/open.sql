-- A counter that is not there holds nothing, and gets its row.
SELECT tenancy.open_counters($1, $2, $3::text[]::timestamptz[])
