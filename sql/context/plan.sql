-- What the context lacks of a mode, changing nothing.
SELECT action AS "action!", statement, note FROM tenancy.context_changes($1)
