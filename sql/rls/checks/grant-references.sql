-- id: grant-references
-- title: The application role may reference a tenant table
-- severity: warning
-- why: A foreign key asks no policy: a table of its own that references the key tells whether a row exists, whosever it is.
-- fix: Revoke REFERENCES; grant SELECT, INSERT, UPDATE and DELETE by name, never ALL.
-- example: GRANT ALL ON public.events TO tenancy_app;
-- example: CREATE TABLE guess (id uuid REFERENCES public.events);  -- as the application
-- example: INSERT INTO guess VALUES ('…');  -- accepted where some tenant has that row, refused where none has
WITH acl AS (
    SELECT c.oid, c.relacl AS acl FROM pg_class c WHERE c.oid = ANY ($1::oid[])
    UNION ALL
    SELECT f.attrelid, f.attacl FROM pg_attribute f
     WHERE f.attacl IS NOT NULL AND f.attnum > 0 AND NOT f.attisdropped AND f.attrelid = ANY ($1::oid[])
),
held AS (
    SELECT DISTINCT c.oid, c.relname, c.relkind, n.nspname, x.grantee
      FROM acl a
     CROSS JOIN LATERAL aclexplode(a.acl) x
      JOIN unnest($1::oid[], $3::boolean[]) AS t(oid, reachable) ON t.oid = a.oid
      JOIN pg_class c ON c.oid = a.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE t.reachable AND x.privilege_type = 'REFERENCES' AND x.grantee <> c.relowner
)
SELECT h.oid AS relation, format('%I.%I', h.nspname, h.relname) AS object,
       CASE h.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       '' AS detail,
       'a foreign key to the table tells which rows exist, whosever they are, and the application role may create one' AS message,
       format('REFERENCES held through %s', string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ', ')) AS evidence,
       -- Takes the columns' with it.
       format('REVOKE REFERENCES ON %I.%I FROM %s;', h.nspname, h.relname,
              string_agg(DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC'), ', ')) AS fix,
       NULL::text AS severity
  FROM held h
  LEFT JOIN pg_roles r ON r.oid = h.grantee
 WHERE h.grantee = 0 OR (h.grantee = ANY ($4::oid[]) AND NOT r.rolsuper)
 GROUP BY h.oid, h.nspname, h.relname, h.relkind
