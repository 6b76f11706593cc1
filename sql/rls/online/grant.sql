-- For the rest of the transaction: the tables $1 have a tenant column that is NOT NULL, and policies bind us on the tables $2
-- unless we are exempt.
SELECT set_config('tenancy.planned_not_null', array_to_string($1::oid[], ','), true) AS "not_null!",
       set_config('tenancy.planned_force', CASE WHEN r.rolsuper OR r.rolbypassrls THEN '' ELSE array_to_string($2::oid[], ',') END,
                  true) AS "force!"
  FROM pg_roles r WHERE r.rolname = current_user
