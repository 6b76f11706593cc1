-- Brings the event trigger on new tables to a mode.
SELECT action AS "action!", statement, note FROM tenancy.guard_new_tables($1, $2)
