INSERT INTO tenancy.features (key, name, position) VALUES ($1, $2, $3)
