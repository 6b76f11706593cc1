-- What would undo setup on the database as a whole, changing nothing.
SELECT action AS "action!", statement, note
  FROM (SELECT "position", action, statement, note FROM tenancy.database_removal()
        UNION ALL
        SELECT NULL, action, statement, note FROM tenancy.context_changes('plain')) AS all_of_it
 ORDER BY "position"
