-- A new key signs; the old ones are valid for so many seconds more.
SELECT tenancy.rotate_context_key(make_interval(secs => $1)) AS "id!"
