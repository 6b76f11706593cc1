-- What the database as a whole gives away.
SELECT action AS "action!", statement, note FROM tenancy.database_hardening() ORDER BY "position"
