-- The table that a name means in the connection's search_path.
SELECT tenancy.find_table($1)::oid AS relation
