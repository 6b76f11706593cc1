-- id: context-unsealed
-- title: Any SQL that the application role runs can name any tenant
-- severity: note
-- why: The tenant in context is a setting, which every statement can set: one SQL injection is every tenant's rows.
-- fix: Have the platform's services sign the tenant, and seal the context.
-- example: SELECT set_config('app.current_tenant_id', '7f0c1d9e-0000-4000-8000-000000000001', true);  -- injected: from here on it is that tenant
-- example: SELECT * FROM public.events;  -- the other tenant's rows, as the policies have it
SELECT NULL::oid AS relation, 'tenancy.current_tenant_id()' AS object, 'function' AS object_kind, '' AS detail,
       'it believes whoever sets the tenant: any SQL that the application role runs can name any tenant' AS message,
       'tenancy.context_mode() is plain' AS evidence,
       E'-- Have the services sign first, see `tenantctl rls context`.\nSELECT tenancy.set_context_mode(''sealed'');' AS fix,
       NULL::text AS severity
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_proc s ON s.pronamespace = n.oid AND s.proname = 'unseal' AND s.proowner = p.proowner
 WHERE n.nspname = 'tenancy' AND p.proname = 'current_tenant_id' AND p.proowner = $9
   AND EXISTS (SELECT FROM unnest($8::text[]) AS c(name) WHERE lower(c.name) = 'app.current_tenant_id')
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                      AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = s.oid)
