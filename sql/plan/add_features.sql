INSERT INTO tenancy.plan_features (plan, feature) SELECT $1, unnest($2::text[])
