SELECT pg_logical_emit_message(true, 'tenancy', 'usage is recorded') IS NOT NULL AS "flushed!"
