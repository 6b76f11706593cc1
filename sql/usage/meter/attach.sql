-- Without a column, the one that the table is registered with.
SELECT a.outcome AS "outcome!", a.unassigned AS "unassigned?"
  FROM tenancy.attach_meter($1, $2::oid::regclass, coalesce($3, (
           SELECT r.tenant_column FROM tenancy.protected_tables r WHERE r.relation = $2::oid::regclass), 'tenant_id'), $4) a
