-- Every entry opens a way from one tenant to another, or takes away what closes it. The names behind the colon are the
-- checks that must say so.

-- leak rls-off: rls-disabled
ALTER TABLE public.projects DISABLE ROW LEVEL SECURITY;

-- leak new-table: rls-disabled
CREATE TABLE public.invoices (tenant_id uuid NOT NULL, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), total int NOT NULL);
GRANT SELECT, INSERT ON public.invoices TO @app;

-- leak not-forced: rls-not-forced
ALTER TABLE public.projects NO FORCE ROW LEVEL SECURITY;

-- leak application-owns-table: owner-reachable
GRANT CREATE ON SCHEMA public TO @app;
ALTER TABLE public.projects OWNER TO @app;
REVOKE CREATE ON SCHEMA public FROM @app;

-- leak application-becomes-owner: owner-reachable
CREATE ROLE @group NOLOGIN;
GRANT @owner TO @group;
GRANT @group TO @app;

-- leak application-owns-schema: owner-reachable
ALTER SCHEMA public OWNER TO @app;

-- leak owner-bypasses: view-definer
ALTER ROLE @owner BYPASSRLS;
CREATE VIEW public.project_names WITH (security_barrier) AS SELECT tenant_id, name FROM public.projects;
ALTER VIEW public.project_names OWNER TO @owner;
GRANT SELECT ON public.project_names TO @app;

-- leak child-of-a-tenant-table: child-unprotected
CREATE TABLE public.comments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant uuid NOT NULL, task uuid NOT NULL, body text NOT NULL,
    FOREIGN KEY (tenant, task) REFERENCES public.tasks (tenant_id, id));
GRANT SELECT, INSERT ON public.comments TO @app;

-- leak open-partition: partition-open
CREATE TABLE public.visits (tenant_id uuid NOT NULL, day date NOT NULL, path text NOT NULL, PRIMARY KEY (tenant_id, day, path))
    PARTITION BY RANGE (day);
CREATE TABLE public.visits_all PARTITION OF public.visits DEFAULT;
ALTER TABLE public.visits ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.visits FORCE ROW LEVEL SECURITY;
CREATE POLICY isolation ON public.visits TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
GRANT SELECT, INSERT ON public.visits, public.visits_all TO @app;

-- leak open-child: partition-open
CREATE TABLE public.old_projects (PRIMARY KEY (tenant_id, id)) INHERITS (public.projects);
GRANT SELECT ON public.old_projects TO @app;

-- leak always-true: permissive-leak
CREATE POLICY debug ON public.projects FOR SELECT TO @app USING (true);

-- leak or-true: permissive-leak
ALTER POLICY isolation ON public.projects
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid) OR true);

-- leak tautology: permissive-leak
CREATE POLICY support ON public.projects FOR SELECT TO @app USING (tenant_id = tenant_id);

-- leak other-column: permissive-leak
CREATE POLICY named ON public.projects FOR SELECT TO @app USING (name IS NOT NULL);

-- leak any-known-tenant: permissive-leak
ALTER TABLE public.tenants DISABLE ROW LEVEL SECURITY;
CREATE POLICY known ON public.projects FOR SELECT TO @app USING (tenant_id IN (SELECT t.id FROM public.tenants t));

-- leak by-role-name: permissive-leak
CREATE POLICY staff ON public.projects FOR SELECT TO @app USING (current_user = '@app');

-- leak not-null-tenant: permissive-leak
CREATE POLICY filed ON public.projects FOR SELECT TO @app USING (tenant_id IS NOT NULL);

-- leak coalesce: fails-open
ALTER POLICY isolation ON public.projects
    USING (tenant_id = coalesce(nullif(current_setting('app.tenant_id', true), '')::uuid, tenant_id));

-- leak no-context: fails-open
ALTER POLICY isolation ON public.projects
    USING (current_setting('app.tenant_id', true) IS NULL OR current_setting('app.tenant_id', true) = ''
           OR tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);

-- leak no-context-in-a-helper: fails-open
CREATE FUNCTION app.visible(tenant uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF nullif(current_setting('app.tenant_id', true), '') IS NULL THEN
        RETURN true;
    END IF;
    RETURN tenant = current_setting('app.tenant_id', true)::uuid;
END $$;
ALTER POLICY isolation ON public.projects USING (app.visible(tenant_id));

-- leak admin-setting: spoofable-bypass
CREATE POLICY admins ON public.projects TO @app USING (current_setting('app.is_admin', true) = 'on');

-- leak admin-setting-in-a-helper: spoofable-bypass
CREATE FUNCTION app.is_support() RETURNS boolean LANGUAGE sql STABLE AS
    $$ SELECT coalesce(current_setting('app.role', true), '') = 'support' $$;
CREATE POLICY admins ON public.projects FOR SELECT TO @app USING (app.is_support());

-- leak check-true: check-leak
ALTER POLICY isolation ON public.projects WITH CHECK (true);

-- leak insert-anywhere: check-leak
CREATE POLICY import ON public.projects FOR INSERT TO @app WITH CHECK (name <> '');

-- leak update-anywhere: check-leak
GRANT UPDATE ON public.projects TO @app;
CREATE POLICY move ON public.projects FOR UPDATE TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)) WITH CHECK (true);

-- leak delete-anywhere: delete-leak
CREATE POLICY purge ON public.projects FOR DELETE TO @app USING (true);

-- leak update-any-row: delete-leak
CREATE POLICY edit ON public.projects FOR UPDATE TO @app USING (true) WITH CHECK (true);

-- leak literal-tenant: literal-tenant
ALTER POLICY isolation ON public.projects
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid)
           OR tenant_id = '00000000-0000-0000-0000-000000000001'::uuid);

-- leak row-flag: row-flag-branch
ALTER POLICY isolation ON public.projects
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid) OR is_public);

-- leak nobody's-rows: null-tenant-shared
CREATE TABLE public.templates (tenant_id uuid REFERENCES public.tenants, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body text);
ALTER TABLE public.templates OWNER TO @owner;
ALTER TABLE public.templates ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.templates FORCE ROW LEVEL SECURITY;
CREATE POLICY isolation ON public.templates TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid) OR tenant_id IS NULL);
GRANT SELECT, INSERT, UPDATE, DELETE ON public.templates TO @app;

-- leak self-granted: self-granted
CREATE TABLE public.grants (reader uuid NOT NULL, target uuid NOT NULL, PRIMARY KEY (reader, target));
GRANT SELECT, INSERT ON public.grants TO @app;
CREATE POLICY granted ON public.projects FOR SELECT TO @app
    USING (tenant_id IN (SELECT g.target FROM public.grants g
                          WHERE g.reader = nullif(current_setting('app.tenant_id', true), '')::uuid));

-- leak own-helper: helper-replaceable
CREATE FUNCTION app.tenant() RETURNS uuid LANGUAGE sql STABLE AS
    $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$;
GRANT CREATE ON SCHEMA app TO @app;
ALTER FUNCTION app.tenant() OWNER TO @app;
REVOKE CREATE ON SCHEMA app FROM @app;
ALTER POLICY isolation ON public.projects USING (tenant_id = (SELECT app.tenant()))
    WITH CHECK (tenant_id = (SELECT app.tenant()));

-- leak immutable-helper: helper-immutable
CREATE FUNCTION app.tenant() RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN nullif(current_setting('app.tenant_id', true), '')::uuid; END $$;
ALTER POLICY isolation ON public.projects USING (tenant_id = app.tenant()) WITH CHECK (tenant_id = app.tenant());

-- leak shadowed-helper: helper-search-path
CREATE TABLE app.sessions (token text PRIMARY KEY, tenant uuid NOT NULL);
ALTER TABLE app.sessions OWNER TO @owner;
GRANT SELECT ON app.sessions TO @app;
CREATE FUNCTION app.tenant() RETURNS uuid LANGUAGE plpgsql STABLE AS
    $$ BEGIN RETURN (SELECT tenant FROM sessions WHERE token = current_setting('app.token', true)); END $$;
CREATE POLICY by_session ON public.projects FOR SELECT TO @app USING (tenant_id = (SELECT app.tenant()));
GRANT CREATE ON SCHEMA public TO @app;

-- leak floor-for-one-command: command-uncovered
CREATE POLICY floor ON public.projects AS RESTRICTIVE FOR SELECT TO PUBLIC
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
CREATE POLICY everything ON public.projects TO @app USING (true);

-- leak floor-for-another-role: permissive-leak
CREATE ROLE @reports NOLOGIN;
CREATE POLICY floor ON public.projects AS RESTRICTIVE TO @reports
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
CREATE POLICY everything ON public.projects TO @app USING (true);

-- leak floor-that-is-true: permissive-leak, floor-constant
CREATE POLICY floor ON public.projects AS RESTRICTIVE TO PUBLIC USING (true);
CREATE POLICY everything ON public.projects TO @app USING (true);

-- leak editable-claim: editable-claim
CREATE POLICY claimed ON public.projects FOR SELECT TO @app
    USING (tenant_id = ((nullif(current_setting('request.jwt.claims', true), '')::json -> 'user_metadata') ->> 'tenant_id')::uuid);

-- leak application-bypasses: role-bypassrls
ALTER ROLE @app BYPASSRLS;

-- leak application-is-superuser: role-superuser
ALTER ROLE @app SUPERUSER;

-- leak bypass-in-reach: role-bypassrls
CREATE ROLE @maintenance NOLOGIN BYPASSRLS;
CREATE ROLE @between NOLOGIN NOINHERIT IN ROLE @maintenance;
GRANT @between TO @app;

-- leak login-bypasses: login-escapes
ALTER ROLE @login BYPASSRLS;

-- leak creates-roles: role-createrole
ALTER ROLE @app CREATEROLE;

-- leak replicates: role-replication
ALTER ROLE @app REPLICATION;

-- leak reads-server-files: role-server-files
GRANT pg_read_server_files TO @app;

-- leak runs-programs: role-server-files
GRANT pg_execute_server_program TO @app;

-- leak reads-activity: role-reads-stats
GRANT pg_monitor TO @app;

-- leak creates-in-public: role-creates
GRANT CREATE ON SCHEMA public TO @app;

-- leak truncate: grant-truncate
GRANT TRUNCATE ON public.tasks TO @app;

-- leak trigger: grant-trigger
GRANT TRIGGER ON public.projects TO @app;

-- leak references: grant-references
GRANT REFERENCES ON public.projects TO @app;

-- leak public-rights: grant-public
GRANT SELECT ON public.projects TO PUBLIC;

-- leak future-tables: default-privileges
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO @app;

-- leak large-object: large-objects
SELECT lo_create(4711);
GRANT SELECT, UPDATE ON LARGE OBJECT 4711 TO @app;

-- leak view: view-definer
CREATE VIEW public.project_names AS SELECT tenant_id, name FROM public.projects;
GRANT SELECT ON public.project_names TO @app;

-- leak view-behind-a-view: view-definer
CREATE VIEW app.all_projects AS SELECT * FROM public.projects;
CREATE VIEW public.project_names WITH (security_invoker = true) AS SELECT tenant_id, name FROM app.all_projects;
GRANT SELECT ON app.all_projects, public.project_names TO @app;

-- leak view-to-write: view-definer
CREATE VIEW public.project_edit AS SELECT * FROM public.projects;
GRANT INSERT, UPDATE, DELETE ON public.project_edit TO @app;

-- leak materialized-view: materialized-view
CREATE MATERIALIZED VIEW public.project_count AS SELECT tenant_id, count(*) FROM public.projects GROUP BY tenant_id;
GRANT SELECT ON public.project_count TO @app;

-- leak leaky-view: view-leaky
CREATE VIEW public.own_projects AS SELECT * FROM public.projects
    WHERE tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid;
GRANT SELECT ON public.own_projects TO @app;

-- leak definer-function: function-definer
CREATE FUNCTION public.find_projects(pattern text) RETURNS SETOF public.projects LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = '' AS $$ SELECT * FROM public.projects WHERE name LIKE pattern $$;

-- leak dynamic-function: function-definer
CREATE FUNCTION public.count_rows(relation text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE rows bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s', relation) INTO rows;
    RETURN rows;
END $$;

-- leak definer-procedure: function-definer
CREATE PROCEDURE public.rename_projects(title text) LANGUAGE sql SECURITY DEFINER SET search_path = ''
    AS $$ UPDATE public.projects SET name = title $$;

-- leak trusting-function: function-definer
CREATE FUNCTION public.projects_of(tenant uuid) RETURNS SETOF public.projects LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = '' AS $$ SELECT * FROM public.projects p WHERE p.tenant_id = tenant $$;

-- leak unpinned-function: function-search-path
CREATE TABLE app.plans (name text PRIMARY KEY, seats int NOT NULL);
CREATE FUNCTION public.seats(plan text) RETURNS int LANGUAGE sql STABLE SECURITY DEFINER
    AS $$ SELECT seats FROM app.plans WHERE name = plan $$;

-- leak leakproof-function: function-leakproof
CREATE FUNCTION public.looks(value text) RETURNS boolean LANGUAGE plpgsql STABLE LEAKPROOF COST 0.0001
    AS $$ BEGIN RAISE NOTICE '%', value; RETURN true; END $$;

-- leak session-wide-context: function-sets-session
CREATE FUNCTION public.enter(tenant uuid) RETURNS void LANGUAGE plpgsql
    AS $$ BEGIN PERFORM set_config('app.tenant_id', tenant::text, false); END $$;

-- leak foreign-table: foreign-table
CREATE FOREIGN DATA WRAPPER elsewhere;
CREATE SERVER remote FOREIGN DATA WRAPPER elsewhere;
CREATE FOREIGN TABLE public.remote_projects (tenant_id uuid, id uuid, name text) SERVER remote;
GRANT SELECT ON public.remote_projects TO @app;

-- leak publication: publication-unfiltered
CREATE PUBLICATION everything FOR TABLE public.projects;

-- leak key-in-a-role: secret-in-catalog
DO $$ BEGIN
    EXECUTE format('ALTER ROLE @login IN DATABASE %I SET app.jwt_secret = %L', current_database(), 'k3DkXq0vT9pLw2mZ');
END $$;

-- leak tenantless-row: tenant-nullable
CREATE TABLE public.notes (tenant_id uuid REFERENCES public.tenants, id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body text);
ALTER TABLE public.notes OWNER TO @owner;
ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.notes FORCE ROW LEVEL SECURITY;
CREATE INDEX ON public.notes (tenant_id);
CREATE POLICY isolation ON public.notes TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
GRANT SELECT, INSERT ON public.notes TO @app;

-- leak default-tenant: tenant-default
ALTER TABLE public.projects ALTER COLUMN tenant_id SET DEFAULT '00000000-0000-0000-0000-000000000001';

-- leak case-blind-tenant: tenant-type
CREATE COLLATION public.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE public.labels (tenant_id text COLLATE public.blind NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(),
                            name text NOT NULL, PRIMARY KEY (tenant_id, id));
ALTER TABLE public.labels OWNER TO @owner;
ALTER TABLE public.labels ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.labels FORCE ROW LEVEL SECURITY;
CREATE POLICY isolation ON public.labels TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')));
GRANT SELECT, INSERT ON public.labels TO @app;

-- leak crossing-reference: foreign-key-crosses
ALTER TABLE public.projects ADD CONSTRAINT project_id UNIQUE (id);
ALTER TABLE public.tasks DROP CONSTRAINT tasks_tenant_id_project_id_fkey,
    ADD CONSTRAINT task_project FOREIGN KEY (project_id) REFERENCES public.projects (id);

-- leak unique-name: unique-crosses
CREATE UNIQUE INDEX project_name ON public.projects (name);

-- leak unique-expression: unique-crosses
CREATE UNIQUE INDEX project_name ON public.projects (lower(name));

-- leak unique-where: unique-crosses
CREATE UNIQUE INDEX project_name ON public.projects (name) WHERE is_public;

-- leak exclusion: unique-crosses
CREATE TABLE public.bookings (tenant_id uuid NOT NULL REFERENCES public.tenants, id uuid NOT NULL DEFAULT gen_random_uuid(),
                              during daterange NOT NULL, PRIMARY KEY (tenant_id, id), EXCLUDE USING gist (during WITH &&));
ALTER TABLE public.bookings OWNER TO @owner;
ALTER TABLE public.bookings ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.bookings FORCE ROW LEVEL SECURITY;
CREATE POLICY isolation ON public.bookings TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
GRANT SELECT, INSERT ON public.bookings TO @app;

-- leak natural-key: unique-crosses
CREATE TABLE public.people (email text PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES public.tenants);
CREATE INDEX ON public.people (tenant_id);
ALTER TABLE public.people OWNER TO @owner;
ALTER TABLE public.people ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.people FORCE ROW LEVEL SECURITY;
CREATE POLICY isolation ON public.people TO @app
    USING (tenant_id = (SELECT nullif(current_setting('app.tenant_id', true), '')::uuid));
GRANT SELECT, INSERT ON public.people TO @app;

-- leak drifted-rows: data-drift
INSERT INTO public.tenants (id, name) VALUES ('00000000-0000-0000-0000-000000000001', 'a'), ('00000000-0000-0000-0000-000000000002', 'b');
ALTER TABLE public.projects ADD CONSTRAINT project_id UNIQUE (id);
ALTER TABLE public.tasks DROP CONSTRAINT tasks_tenant_id_project_id_fkey,
    ADD CONSTRAINT task_project FOREIGN KEY (project_id) REFERENCES public.projects (id);
INSERT INTO public.projects (tenant_id, id, name)
VALUES ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000003', 'a');
INSERT INTO public.tasks (tenant_id, project_id, title)
VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000003', 'b');

-- leak preset-of-the-role: context-preset
ALTER ROLE @login SET app.tenant_id = '00000000-0000-0000-0000-000000000001';

-- leak preset-of-the-database: context-preset
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET app.tenant_id = %L', current_database(), '00000000-0000-0000-0000-000000000001');
END $$;

-- leak row-security-off: row-security-off
ALTER ROLE @login SET row_security = off;

-- leak uncast-empty: context-uncast-empty
ALTER POLICY isolation ON public.projects USING (tenant_id = (SELECT current_setting('app.tenant_id', true)::uuid))
    WITH CHECK (tenant_id = (SELECT current_setting('app.tenant_id', true)::uuid));
