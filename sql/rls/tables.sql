-- Every table of the platform with what it is, parents first.
SELECT relation::oid AS "relation!", format('%I.%I', schema_name, table_name) AS "name!", schema_name AS "schema_name!",
       table_name AS "table_name!", kind AS "kind!", tenant_column, protected AS "protected!"
  FROM tenancy.platform_tables($1)
