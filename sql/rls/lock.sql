-- Until the end of the transaction, one setup at a time.
SELECT tenancy.lock_isolation()::text AS done
