SELECT tenancy.detach_meter($1, $2::oid::regclass) AS "detached!"
