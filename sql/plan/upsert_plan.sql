-- The first plan of all is the one of tenants that name none.
INSERT INTO tenancy.plans (key, name, position, is_default)
SELECT $1, $2, coalesce(max(x.position) + 1, 0), NOT coalesce(bool_or(x.is_default), false) FROM tenancy.plans x
ON CONFLICT (key) DO UPDATE SET name = excluded.name
