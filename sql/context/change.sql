-- Brings the context to a mode.
SELECT action AS "action!", statement, note FROM tenancy.change_context($1)
