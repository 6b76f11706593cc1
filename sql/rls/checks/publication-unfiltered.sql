-- id: publication-unfiltered
-- title: A publication carries every tenant's rows out of the database
-- severity: warning
-- why: Logical replication reads below the policies: whoever subscribes gets every tenant's rows, and where they go no policy stands.
-- fix: Publish with a row filter, or name in the contract who subscribes and why.
-- example: CREATE PUBLICATION feed FOR TABLE public.events;
-- example: CREATE SUBSCRIPTION mine CONNECTION '…' PUBLICATION feed;  -- every tenant's events, as they happen
WITH RECURSIVE
tenant(oid, root) AS (
    SELECT t.oid, t.oid FROM unnest($1::oid[]) AS t(oid)
    UNION
    -- What is published of a partitioned table goes for its partitions.
    SELECT t.oid, i.inhparent FROM tenant t JOIN pg_class c ON c.oid = t.root AND c.relispartition JOIN pg_inherits i ON i.inhrelid = t.root
),
carried AS (
    SELECT p.oid AS publication, 'ALL TABLES' AS how, t.oid AS relation, NULL::oid AS schema
      FROM pg_publication p CROSS JOIN unnest($1::oid[]) AS t(oid) WHERE p.puballtables
    UNION
    SELECT n.pnpubid, 'TABLES IN SCHEMA', t.oid, n.pnnspid
      FROM pg_publication_namespace n JOIN pg_class c ON c.relnamespace = n.pnnspid JOIN tenant t ON t.root = c.oid
    UNION
    SELECT r.prpubid, 'TABLE', r.prrelid, NULL
      FROM pg_publication_rel r JOIN tenant t ON t.root = r.prrelid WHERE r.prqual IS NULL
)
SELECT NULL::oid AS relation, format('%I', p.pubname) AS object, 'publication' AS object_kind, '' AS detail,
       format('carries every tenant''s rows of %s', CASE WHEN count(DISTINCT c.relation) > 5 THEN format('%s tenant tables', count(DISTINCT c.relation))
              ELSE string_agg(DISTINCT c.relation::regclass::text, ', ') END) AS message,
       format('FOR %s, no row filter', string_agg(DISTINCT c.how, ' and ')) AS evidence,
       CASE WHEN bool_or(p.puballtables) THEN format('DROP PUBLICATION %I;', p.pubname)
            ELSE concat_ws(' ',
                (SELECT format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %s;', p.pubname, string_agg(DISTINCT quote_ident(n.nspname), ', '))
                   FROM carried x JOIN pg_namespace n ON n.oid = x.schema WHERE x.publication = p.oid HAVING count(*) > 0),
                (SELECT format('ALTER PUBLICATION %I DROP TABLE %s;', p.pubname, string_agg(DISTINCT format('%I.%I', n.nspname, k.relname), ', '))
                   FROM carried x JOIN pg_class k ON k.oid = x.relation JOIN pg_namespace n ON n.oid = k.relnamespace
                  WHERE x.publication = p.oid AND x.how = 'TABLE' HAVING count(*) > 0)) END AS fix,
       NULL::text AS severity
  FROM carried c JOIN pg_publication p ON p.oid = c.publication
 GROUP BY p.oid, p.pubname
