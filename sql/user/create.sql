-- The update that changes nothing makes the identifier come back where the user exists.
INSERT INTO tenancy.users (email) VALUES ($1)
ON CONFLICT (email) DO UPDATE SET email = excluded.email
RETURNING id
