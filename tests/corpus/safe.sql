-- Every entry looks like a leak and is none: nothing worse than a note may be said about it.

-- safe floor-under-true
CREATE POLICY everything ON public.projects TO @app USING (true);
CREATE POLICY floor ON public.projects AS RESTRICTIVE TO PUBLIC
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));

-- safe reference-table
INSERT INTO public.countries VALUES ('FR', 'France'), ('PE', 'Peru');

-- safe view-of-a-bound-owner
CREATE VIEW public.project_names WITH (security_barrier) AS SELECT tenant_id, name FROM public.projects;
CREATE POLICY owner ON public.projects TO @owner
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
ALTER VIEW public.project_names OWNER TO @owner;
GRANT SELECT ON public.project_names TO @app;

-- safe invoker-view
CREATE VIEW public.project_names WITH (security_invoker = true) AS SELECT tenant_id, name FROM public.projects;
GRANT SELECT ON public.project_names TO @app;

-- safe function-that-filters
CREATE FUNCTION public.project_total() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT count(*) FROM public.projects p WHERE p.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid
$$;
ALTER FUNCTION public.project_total() OWNER TO @owner;

-- safe policy-per-command
DROP POLICY isolation ON public.projects;
CREATE POLICY readable ON public.projects FOR SELECT TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
CREATE POLICY insertable ON public.projects FOR INSERT TO @app
    WITH CHECK (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
CREATE POLICY updatable ON public.projects FOR UPDATE TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
CREATE POLICY deletable ON public.projects FOR DELETE TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));

-- safe without-check
DROP POLICY isolation ON public.projects;
CREATE POLICY isolation ON public.projects TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));

-- safe read-only-policy
DROP POLICY isolation ON public.projects;
CREATE POLICY isolation ON public.projects FOR SELECT TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
REVOKE INSERT, DELETE, UPDATE (name, country, is_public) ON public.projects FROM @app;

-- safe stable-helper
CREATE FUNCTION app.tenant() RETURNS uuid LANGUAGE sql STABLE AS
    $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$;
ALTER FUNCTION app.tenant() OWNER TO @owner;
ALTER POLICY isolation ON public.projects USING (tenant_id = (SELECT app.tenant())) WITH CHECK (tenant_id = (SELECT app.tenant()));

-- safe narrower
ALTER POLICY isolation ON public.projects
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid) AND (is_public OR name <> 'true'));

-- safe random-keys
ALTER TABLE public.projects ADD CONSTRAINT project_id UNIQUE (id);

-- safe keys-with-the-tenant
CREATE UNIQUE INDEX project_name ON public.projects (tenant_id, lower(name));

-- safe table-out-of-reach
CREATE TABLE app.jobs (tenant_id uuid NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload text);
CREATE INDEX ON app.jobs (tenant_id);
ALTER TABLE app.jobs OWNER TO @owner;

-- safe declared-publication
CREATE PUBLICATION reference FOR TABLE public.countries;

-- safe tenant-column-under-policies
GRANT UPDATE (tenant_id) ON public.projects TO @app;
