SELECT rtrim(tenancy.role_name(''), '_') AS "prefix!"
