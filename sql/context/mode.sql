-- Whether the context has to be signed.
SELECT tenancy.context_mode() AS "mode!"
