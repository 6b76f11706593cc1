SELECT NOT EXISTS (SELECT FROM tenancy.plans) AS "empty!"
