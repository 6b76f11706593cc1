-- Undoes what setup made of the database as a whole.
SELECT action AS "action!", statement, note
  FROM (SELECT "position", action, statement, note FROM tenancy.dismantle_database()
        UNION ALL
        SELECT NULL, action, statement, note FROM tenancy.change_context('plain')) AS all_of_it
 ORDER BY "position"
