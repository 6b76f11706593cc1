INSERT INTO tenancy.plans (key, name, position, is_default) VALUES ($1, $2, $3, $4)
