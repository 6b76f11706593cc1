-- Writes an index down as setup's before it is built: whatever ends the build, the next run and a teardown know it.
INSERT INTO tenancy.isolation_changes (relation, schema, kind, object, role, taken, detail)
VALUES ($1::oid::regclass, 0::oid::regnamespace, 'index', $2, '', false, $3)
ON CONFLICT ON CONSTRAINT isolation_changes_pkey DO UPDATE SET detail = excluded.detail
