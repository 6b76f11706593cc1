INSERT INTO tenancy.metrics (key, name, unit, kind, reset, source, position) VALUES ($1, $2, $3, $4, $5, $6, $7)
