-- id: no-policy
-- title: The application role may use the table, but no policy lets it see a row
-- severity: warning
-- why: With row-level security on, a command without a permissive policy is denied: the application reads nothing and fails to write.
-- fix: Create the tenant policies for the role (`rls setup` does it), or revoke the privilege.
-- example: ALTER TABLE public.events ENABLE ROW LEVEL SECURITY;
-- example: GRANT SELECT, INSERT ON public.events TO tenancy_app;
-- example: SELECT * FROM public.events;  -- as the application, in the right tenant: no rows; INSERT fails
SELECT c.oid AS relation, format('%I.%I', n.nspname, c.relname) AS object,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind,
       string_agg(k.command, ',' ORDER BY k.command) AS detail,
       format('no permissive policy lets %s %s', $6::regrole::text, string_agg(k.command, ', ' ORDER BY k.command)) AS message,
       format('%s holds the privilege, row-level security denies it', $6::regrole::text) AS evidence,
       format('CREATE POLICY tenant_isolation ON %I.%I TO %s USING (…);', n.nspname, c.relname, $6::regrole::text) AS fix,
       NULL::text AS severity
  FROM unnest($1::oid[], $3::boolean[]) AS t(oid, reachable)
  JOIN pg_class c ON c.oid = t.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN (VALUES ('SELECT', 'r'), ('INSERT', 'a'), ('UPDATE', 'w'), ('DELETE', 'd')) AS k(command, letter)
 WHERE t.reachable AND c.relrowsecurity
   AND has_schema_privilege($6::oid, n.oid, 'USAGE') AND has_table_privilege($6::oid, c.oid, k.command)
   AND NOT EXISTS (SELECT FROM pg_policy p
                    WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd::text IN ('*', k.letter)
                      AND (0 = ANY (p.polroles)
                           OR EXISTS (SELECT FROM unnest(p.polroles) AS r(oid)
                                       WHERE r.oid <> 0 AND pg_has_role($6::oid, r.oid, 'USAGE'))))
 GROUP BY c.oid, n.nspname
