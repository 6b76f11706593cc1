-- What would undo setup on the database as a whole, changing nothing.
SELECT action AS "action!", statement, note FROM tenancy.database_removal() ORDER BY "position"
