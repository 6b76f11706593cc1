-- id: sequence-readable
-- title: The application role reads or sets a sequence that all tenants share
-- severity: note
-- why: Its last value, read twice, tells how much the others add; UPDATE lets one tenant set it back for all.
-- fix: Revoke SELECT and UPDATE; USAGE is enough for nextval, and identity columns need nothing.
-- example: GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO tenancy_app;
-- example: SELECT last_value FROM public.events_id_seq;  -- as the application: how many events all tenants made
WITH used AS (
    SELECT t.oid AS relation, d.objid AS sequence
      FROM unnest($1::oid[]) AS t(oid)
      JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.refobjsubid > 0
                      AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    UNION
    SELECT t.oid, d.refobjid
      FROM unnest($1::oid[]) AS t(oid)
      JOIN pg_attrdef f ON f.adrelid = t.oid
      JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
                      AND d.refobjid <> t.oid
)
SELECT min(u.relation) AS relation, format('%I.%I', n.nspname, s.relname) AS object, 'sequence' AS object_kind, '' AS detail,
       'all tenants draw from the sequence, and the application may look at it or set it' AS message,
       format('%s held through %s', string_agg(DISTINCT a.privilege_type, ', '),
              string_agg(DISTINCT coalesce(r.rolname, 'PUBLIC'), ', ')) AS evidence,
       format('REVOKE SELECT, UPDATE ON SEQUENCE %I.%I FROM %s;', n.nspname, s.relname,
              string_agg(DISTINCT coalesce(quote_ident(r.rolname), 'PUBLIC'), ', ')) AS fix,
       NULL::text AS severity
  FROM used u
  JOIN pg_class s ON s.oid = u.sequence AND s.relkind = 'S'
  JOIN pg_namespace n ON n.oid = s.relnamespace
 CROSS JOIN LATERAL aclexplode(s.relacl) a
  LEFT JOIN pg_roles r ON r.oid = a.grantee
 WHERE a.privilege_type IN ('SELECT', 'UPDATE') AND a.grantee <> s.relowner
   AND (a.grantee = 0 OR (a.grantee = ANY ($4::oid[]) AND NOT r.rolsuper))
   AND EXISTS (SELECT FROM unnest($4::oid[]) AS role(oid) WHERE has_schema_privilege(role.oid, n.oid, 'USAGE'))
 GROUP BY s.oid, s.relname, n.nspname
