-- References that hardening has yet to prove, of tables that we may change and see all rows of.
SELECT u.relation::oid AS "relation!", u.object AS "object!", u.statement AS "statement!"
  FROM tenancy.online_unproven() u
  JOIN pg_constraint k ON k.conrelid = u.relation AND k.conname = u.object
  JOIN pg_class c ON c.oid = u.relation
 WHERE pg_has_role(c.relowner, 'USAGE') AND NOT row_security_active(k.conrelid) AND NOT row_security_active(k.confrelid)
