-- Takes from PUBLIC what nobody needs of the database, and rights on tables still to come.
SELECT action AS "action!", statement, note FROM tenancy.harden_database() ORDER BY "position"
