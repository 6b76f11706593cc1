-- The key that signs the context, or NULL.
SELECT tenancy.signing_key() AS key
