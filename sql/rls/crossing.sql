-- References between tenant tables that do not carry the tenant.
SELECT relation::oid AS "relation!", note AS "note!"
  FROM tenancy.crossing_references($1::oid[]::regclass[], $2::text[])
