-- The valid keys of the context, the one that signs first.
SELECT id AS "id!", created_at AS "created_at!", nullif(expires_at, 'infinity') AS expires_at
  FROM tenancy.context_keys
 WHERE expires_at > now() AND database = current_database()
 ORDER BY context_keys.expires_at DESC, created_at DESC
