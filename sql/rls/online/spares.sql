-- Indexes that hardening built ahead and that are no keys yet, of tables that we may change.
SELECT s.relation::oid AS "relation!", format('%I.%I', n.nspname, c.relname) AS "name!", s.object AS "object!", s.statement AS "statement!"
  FROM tenancy.online_spares() s
  JOIN pg_class c ON c.oid = s.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE pg_has_role(c.relowner, 'USAGE')
