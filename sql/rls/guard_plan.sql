-- What the event trigger on new tables lacks of a mode, changing nothing.
SELECT action AS "action!", statement, note FROM tenancy.guard_changes($1, $2)
