-- Writes the constraint $2 down as setup's where it stands, so that a teardown knows the table.
INSERT INTO tenancy.isolation_changes (relation, schema, kind, object, role, taken, detail)
SELECT k.conrelid, 0::oid::regnamespace, 'constraint', k.conname, '', false, pg_get_constraintdef(k.oid) FROM pg_constraint k
 WHERE k.conrelid = $1::oid AND k.conname = $2::text AND k.contype = 'c' AND k.conislocal
ON CONFLICT ON CONSTRAINT isolation_changes_pkey DO NOTHING
