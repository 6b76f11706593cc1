-- id: tenant-type
-- title: The tenant column's type or collation is not the key's
-- severity: warning
-- why: What is equal for one of them is not for the other: two tenants count as one, or a cast keeps the index out of every query.
-- fix: Give the column the type and collation of the key that it refers to.
-- example: CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
-- example: ALTER TABLE public.events ALTER COLUMN tenant_id TYPE text COLLATE nocase;  -- tenant "acme" now reads what "ACME" wrote
WITH RECURSIVE tenant AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation
      FROM unnest($1::oid[], $2::text[]) AS t(oid, tenant_column)
      JOIN pg_class c ON c.oid = t.oid AND NOT c.relispartition
      JOIN pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN LATERAL (SELECT a.* FROM pg_attribute a
                           WHERE a.attrelid = t.oid AND a.attname = t.tenant_column AND NOT a.attisdropped OFFSET 0) a
),
-- A domain is what it is made of: the comparison is the same, and so is the index.
base(domain, oid) AS (
    SELECT y.oid, y.typbasetype FROM pg_type y WHERE y.typtype = 'd'
    UNION ALL
    SELECT b.domain, y.typbasetype FROM base b JOIN pg_type y ON y.oid = b.oid AND y.typtype = 'd'
),
wrong AS (
    SELECT t.*, format('%I has a nondeterministic collation: tenants whose keys differ only in case or accents are one', t.attname) AS reason,
           format('collation %s', l.oid::regcollation) AS shown, format_type(t.atttypid, t.atttypmod) AS type, 'pg_catalog."C"' AS collation
      FROM tenant t JOIN pg_collation l ON l.oid = t.attcollation AND NOT l.collisdeterministic
    UNION ALL
    SELECT t.*, format('%I is %s, and %s which it refers to is %s', t.attname, format_type(t.atttypid, t.atttypmod), x.key, x.type),
           format('%s in the reference to %s', format_type(t.atttypid, t.atttypmod), x.key), x.type, NULL
      FROM tenant t
     CROSS JOIN LATERAL (
        SELECT format('%s.%I', k.confrelid::regclass, f.attname) AS key, format_type(f.atttypid, f.atttypmod) AS type
          FROM pg_constraint k
          JOIN pg_attribute f ON f.attrelid = k.confrelid AND f.attnum = k.confkey[array_position(k.conkey, t.attnum)]
         WHERE k.conrelid = t.oid AND k.contype = 'f' AND t.attnum = ANY (k.conkey) AND f.atttypid <> t.atttypid
           AND NOT EXISTS (SELECT FROM base b WHERE (b.domain = t.atttypid AND b.oid = f.atttypid) OR (b.domain = f.atttypid AND b.oid = t.atttypid))
           AND NOT EXISTS (SELECT FROM base b JOIN base o ON o.oid = b.oid WHERE b.domain = t.atttypid AND o.domain = f.atttypid)
         ORDER BY k.oid LIMIT 1) x
),
-- PostgreSQL changes no type under a policy: they go and come back in the same transaction.
policy AS (
    SELECT p.polrelid,
           string_agg(format('DROP POLICY %I ON %I.%I;', p.polname, w.nspname, w.relname), ' ' ORDER BY p.polname) AS away,
           string_agg(format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s%s%s;', p.polname, w.nspname, w.relname,
                             CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                             CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                             (SELECT string_agg(CASE WHEN r.oid = 0 THEN 'PUBLIC' ELSE r.oid::regrole::text END, ', ') FROM unnest(p.polroles) AS r(oid)),
                             ' USING (' || x.qual || ')', ' WITH CHECK (' || x.checked || ')'), ' ' ORDER BY p.polname) AS back
      FROM (SELECT o.oid, s.qual, s.checked, s.whole FROM unnest($11::oid[], $12::int[]) AS o(oid, said)
              LEFT JOIN unnest($13::text[], $14::text[], $15::text[]) WITH ORDINALITY AS s(qual, checked, whole, said) USING (said) OFFSET 0) AS x
      JOIN pg_policy p ON p.oid = x.oid
      JOIN (SELECT DISTINCT oid, nspname, relname FROM wrong) w ON w.oid = p.polrelid
     GROUP BY p.polrelid
)
SELECT w.oid AS relation, format('%I.%I', w.nspname, w.relname) AS object,
       CASE w.relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS object_kind,
       CASE WHEN w.collation IS NULL THEN 'type' ELSE 'collation' END AS detail,
       w.reason AS message, w.shown AS evidence,
       concat_ws(' ', 'BEGIN;' , p.away,
                 format('ALTER TABLE %I.%I ALTER COLUMN %I TYPE %s%s;', w.nspname, w.relname, w.attname, w.type, ' COLLATE ' || w.collation),
                 p.back, 'COMMIT;') AS fix,
       NULL::text AS severity
  FROM wrong w LEFT JOIN policy p ON p.polrelid = w.oid
