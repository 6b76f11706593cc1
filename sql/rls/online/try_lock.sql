-- One online setup at a time: until the session ends, and not in a transaction, which would hold up the indexes of the one
-- that is at work.
SELECT pg_try_advisory_lock(hashtextextended('tenancy.isolation.online', 0)) AS "locked!"
