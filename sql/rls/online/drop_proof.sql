-- The statement that drops the constraint $2 of the table $1, where an interrupted run left it.
SELECT format('ALTER TABLE %I.%I DROP CONSTRAINT %I', n.nspname, c.relname, k.conname) AS "statement!"
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.conrelid = $1::oid AND k.conname = $2::text AND k.contype = 'c' AND k.conislocal
