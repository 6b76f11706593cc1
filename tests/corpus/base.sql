-- A small platform as a careful team writes it, without any tool: tenants share four tables, the application says which
-- tenant it serves in app.tenant_id. Each entry of leaks.sql and safe.sql is planted into a fresh copy of it. Roles belong
-- to the whole server: `@` stands for a prefix of the copy's own.
CREATE ROLE @owner NOLOGIN;
CREATE ROLE @app NOLOGIN;
CREATE ROLE @login LOGIN IN ROLE @app;
CREATE SCHEMA app AUTHORIZATION @owner;
GRANT USAGE ON SCHEMA public, app TO @app;

CREATE TABLE public.tenants (
    id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL
);
CREATE TABLE public.countries (
    code text PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE public.projects (
    tenant_id uuid NOT NULL REFERENCES public.tenants,
    id        uuid NOT NULL DEFAULT gen_random_uuid(),
    name      text NOT NULL,
    country   text REFERENCES public.countries,
    is_public boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, id)
);
CREATE TABLE public.tasks (
    tenant_id  uuid NOT NULL REFERENCES public.tenants,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    project_id uuid NOT NULL,
    title      text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES public.projects
);
ALTER TABLE public.tenants OWNER TO @owner;
ALTER TABLE public.countries OWNER TO @owner;
ALTER TABLE public.projects OWNER TO @owner;
ALTER TABLE public.tasks OWNER TO @owner;

ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.tenants FORCE ROW LEVEL SECURITY;
ALTER TABLE public.projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.projects FORCE ROW LEVEL SECURITY;
ALTER TABLE public.tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.tasks FORCE ROW LEVEL SECURITY;

CREATE POLICY isolation ON public.tenants FOR SELECT TO @app
    USING (id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
CREATE POLICY isolation ON public.projects TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid))
    WITH CHECK (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
CREATE POLICY isolation ON public.tasks TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid))
    WITH CHECK (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));

GRANT SELECT ON public.tenants, public.countries TO @app;
GRANT SELECT, INSERT, DELETE ON public.projects, public.tasks TO @app;
GRANT UPDATE (name, country, is_public) ON public.projects TO @app;
GRANT UPDATE (title, project_id) ON public.tasks TO @app;
