-- id: shard-policy-differs
-- title: A shard's row-level security is not the coordinator's
-- severity: error
-- why: On Citus a query runs on the shards, under the shards' policies: what was lost on the way there holds nobody.
-- fix: Leave out what Citus does not carry to the shards (RESTRICTIVE, sub-selects), and make row-level security and the policies anew on the coordinator.
-- needs: citus
-- example: CREATE POLICY tenant_floor ON public.events AS RESTRICTIVE USING (tenant_id = tenancy.current_tenant_id());
-- example: SELECT count(*) FROM public.events;  -- on Citus the floor reached the shards as PERMISSIVE: with another policy that says true, every tenant's rows
WITH tenant AS MATERIALIZED (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity
      FROM unnest($1::oid[]) AS t(oid)
      JOIN pg_class c ON c.oid = t.oid
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_dist_partition d ON d.logicalrelid = c.oid
),
-- The same question to the coordinator and to each shard, in the form that run_command_on_shards formats.
said AS MATERIALIZED (
    SELECT t.oid,
           format('row security %s, forced %s', t.relrowsecurity, t.relforcerowsecurity) || coalesce((
               SELECT string_agg(format('; %I %s %s %s %s %s', p.polname, CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, p.polcmd,
                                        (SELECT string_agg(coalesce(r.rolname, 'PUBLIC'), ',' ORDER BY r.rolname)
                                           FROM unnest(p.polroles) AS x(oid) LEFT JOIN pg_roles r ON r.oid = x.oid),
                                        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), '' ORDER BY p.polname)
                 FROM pg_policy p WHERE p.polrelid = t.oid), '') AS here
      FROM tenant t
),
asked AS MATERIALIZED (
    SELECT s.oid, s.here, r.shardid, r.success, r.result
      FROM said s
     CROSS JOIN LATERAL run_command_on_shards(s.oid::regclass, $shard$
           SELECT format('row security %%s, forced %%s', c.relrowsecurity, c.relforcerowsecurity) || coalesce((
               SELECT string_agg(format('; %%I %%s %%s %%s %%s %%s', p.polname, CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, p.polcmd,
                                        (SELECT string_agg(coalesce(r.rolname, 'PUBLIC'), ',' ORDER BY r.rolname)
                                           FROM unnest(p.polroles) AS x(oid) LEFT JOIN pg_roles r ON r.oid = x.oid),
                                        pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), '' ORDER BY p.polname)
                 FROM pg_policy p WHERE p.polrelid = c.oid), '')
             FROM pg_class c WHERE c.oid = %1$L::regclass $shard$) AS r(shardid, success, result)
)
SELECT t.oid AS relation, format('%I.%I', t.nspname, t.relname) AS object,
       CASE t.relkind WHEN 'p' THEN 'partitioned table' ELSE 'table' END AS object_kind, '' AS detail,
       format('%s of its shards do not have its row-level security', count(*)) AS message,
       format('shard %s: %s; the coordinator: %s', min(a.shardid), min(a.result), min(a.here)) AS evidence,
       format('ALTER TABLE %I.%I DISABLE ROW LEVEL SECURITY; ALTER TABLE %1$I.%2$I ENABLE ROW LEVEL SECURITY; ALTER TABLE %1$I.%2$I FORCE ROW LEVEL SECURITY;'
              || '  -- and each policy dropped and created anew, PERMISSIVE, without a sub-select', t.nspname, t.relname) AS fix,
       NULL::text AS severity
  FROM asked a JOIN tenant t ON t.oid = a.oid
 WHERE NOT a.success OR a.result IS DISTINCT FROM a.here
 GROUP BY t.oid, t.nspname, t.relname, t.relkind
