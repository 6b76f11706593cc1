-- id: rls-not-forced
-- title: The owner of the table walks past its policies
-- severity: warning
-- why: Row-level security does not apply to a table's owner unless it is forced, nor to views and functions of that owner.
-- fix: Force row-level security on the table.
-- example: ALTER TABLE public.events NO FORCE ROW LEVEL SECURITY;
-- example: SELECT * FROM public.events;  -- as the owner, or through a view or SECURITY DEFINER function of the owner: all rows
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       '' AS detail,
       CASE WHEN c.relowner = ANY ($4::oid[]) THEN 'row-level security is not forced and the application role acts for the owner'
            WHEN o.rolcanlogin AND NOT o.rolsuper THEN 'row-level security is not forced and the owner can log in'
            ELSE 'row-level security is not forced: the owner sees all tenants' END AS message,
       format('owner %I', o.rolname) AS evidence,
       format('ALTER TABLE %I.%I FORCE ROW LEVEL SECURITY;', n.nspname, c.relname) AS fix,
       CASE WHEN c.relowner = ANY ($4::oid[]) OR (o.rolcanlogin AND NOT o.rolsuper) THEN 'error' END AS severity
  FROM unnest($1::oid[]) AS t(oid)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_roles o ON o.oid = c.relowner
 WHERE c.relrowsecurity AND NOT c.relforcerowsecurity
