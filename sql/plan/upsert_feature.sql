INSERT INTO tenancy.features (key, name, position)
SELECT $1, $2, coalesce(max(x.position) + 1, 0) FROM tenancy.features x
ON CONFLICT (key) DO UPDATE SET name = excluded.name
