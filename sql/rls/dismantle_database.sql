-- Undoes what setup made of the database as a whole.
SELECT action AS "action!", statement, note FROM tenancy.dismantle_database() ORDER BY "position"
