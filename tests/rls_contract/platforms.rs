//! Small schemas in the manner of common platforms. `@` stands for the database's name, which makes roles unique.

/// A platform, the contract that describes it, and leaks to plant.
pub(crate) struct Platform {
    pub(crate) schema: &'static str,
    pub(crate) contract: &'static str,
    /// A query over what the probes must leave as it was.
    pub(crate) state: &'static str,
    /// What plants the leak, what mends it, and the check and object that must be reported.
    pub(crate) leaks: &'static [(&'static str, &'static str, &'static str, &'static str)],
}

/// Users are members of organizations; policies ask the membership table who `auth.uid()` is.
pub(crate) const SUPABASE: Platform = Platform {
    schema: r#"
CREATE ROLE @anon NOLOGIN; CREATE ROLE @authenticated NOLOGIN; CREATE ROLE @service_role NOLOGIN BYPASSRLS;
CREATE ROLE @authenticator LOGIN NOINHERIT; GRANT @anon, @authenticated, @service_role TO @authenticator;
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY, email text UNIQUE);
CREATE FUNCTION auth.uid() RETURNS uuid STABLE LANGUAGE sql AS $$
    SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
                    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
GRANT USAGE ON SCHEMA auth, public TO @anon, @authenticated, @service_role;
CREATE TABLE public.organizations (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);
CREATE TABLE public.members (
    org_id uuid NOT NULL REFERENCES public.organizations ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE, PRIMARY KEY (org_id, user_id));
CREATE TABLE public.projects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org_id uuid NOT NULL REFERENCES public.organizations ON DELETE CASCADE, title text NOT NULL);
CREATE INDEX ON public.projects (org_id);
CREATE TABLE public.countries (code text PRIMARY KEY);
ALTER TABLE public.organizations ENABLE ROW LEVEL SECURITY; ALTER TABLE public.organizations FORCE ROW LEVEL SECURITY;
ALTER TABLE public.members ENABLE ROW LEVEL SECURITY; ALTER TABLE public.members FORCE ROW LEVEL SECURITY;
ALTER TABLE public.projects ENABLE ROW LEVEL SECURITY; ALTER TABLE public.projects FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON public.members FOR SELECT TO @authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY mine ON public.organizations FOR SELECT TO @authenticated
    USING (id IN (SELECT org_id FROM public.members WHERE user_id = (SELECT auth.uid())));
CREATE POLICY mine ON public.projects TO @authenticated
    USING (org_id IN (SELECT org_id FROM public.members WHERE user_id = (SELECT auth.uid())));
GRANT SELECT ON public.organizations, public.members, public.countries TO @authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.projects TO @authenticated;
GRANT ALL ON ALL TABLES IN SCHEMA public TO @service_role;
INSERT INTO auth.users VALUES ('11111111-1111-1111-1111-111111111111', 'a@example.org');
INSERT INTO public.organizations (id, name) VALUES ('22222222-2222-2222-2222-222222222222', 'Acme');
INSERT INTO public.members VALUES ('22222222-2222-2222-2222-222222222222', '11111111-1111-1111-1111-111111111111');
INSERT INTO public.projects (org_id, title) VALUES ('22222222-2222-2222-2222-222222222222', 'Rocket');
"#,
    contract: r#"
tenant_column: org_id
tables: {public.organizations: id}
schemas: [public]
app_roles: ["@authenticated"]
admin_roles: ["@service_role"]
shared_tables: [public.countries]
context:
  set:
    - SELECT set_config('request.jwt.claim.sub', '{user}', true)
    - >-
      SELECT set_config('request.jwt.claims', '{"sub": "{user}", "role": "{role}"}', true)
  prepare:
    - INSERT INTO auth.users (id) VALUES ('{user}')
    - INSERT INTO public.members (org_id, user_id) VALUES ('{tenant}', '{user}')
"#,
    state: "SELECT (SELECT count(*) FROM auth.users), (SELECT count(*) FROM public.members), (SELECT count(*) FROM projects)",
    leaks: &[
        (
            "CREATE POLICY wide ON public.projects FOR SELECT TO @authenticated USING (auth.uid() IS NOT NULL)",
            "DROP POLICY wide ON public.projects",
            "permissive-leak",
            "public.projects",
        ),
        // Whoever may name himself a member is one.
        (
            "CREATE POLICY join_any ON public.members FOR INSERT TO @authenticated WITH CHECK (user_id = (SELECT auth.uid()));
             GRANT INSERT ON public.members TO @authenticated",
            "DROP POLICY join_any ON public.members; REVOKE INSERT ON public.members FROM @authenticated",
            "check-leak",
            "public.members",
        ),
        // A member of anything may delete any organization.
        (
            "CREATE POLICY drop_any ON public.organizations FOR DELETE TO @authenticated
                 USING (EXISTS (SELECT FROM public.members WHERE user_id = (SELECT auth.uid())));
             GRANT DELETE ON public.organizations TO @authenticated",
            "DROP POLICY drop_any ON public.organizations;
             REVOKE DELETE ON public.organizations FROM @authenticated",
            "delete-leak",
            "public.organizations",
        ),
    ],
};

/// The tenant is a claim of the token; a view is the interface.
pub(crate) const POSTGREST: Platform = Platform {
    schema: r#"
CREATE ROLE @web NOLOGIN; CREATE ROLE @owner NOLOGIN;
CREATE SCHEMA data; CREATE SCHEMA api;
CREATE FUNCTION data.tenant() RETURNS uuid STABLE LANGUAGE sql AS
    $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::json ->> 'tenant')::uuid $$;
CREATE TABLE data.tenants (id uuid PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE data.notes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), workspace_id uuid NOT NULL REFERENCES data.tenants, body text);
CREATE INDEX ON data.notes (workspace_id);
ALTER TABLE data.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE data.notes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON data.notes TO @web USING (workspace_id = data.tenant());
CREATE VIEW api.notes WITH (security_invoker = true) AS SELECT id, workspace_id, body FROM data.notes;
GRANT USAGE ON SCHEMA data, api TO @web;
GRANT SELECT, INSERT, UPDATE, DELETE ON data.notes, api.notes TO @web;
"#,
    contract: r#"
tenant_column: workspace_id
app_roles: ["@web"]
context:
  set: SELECT set_config('request.jwt.claims', '{"role":"{role}","tenant":"{tenant}"}', true)
"#,
    state: "SELECT (SELECT count(*) FROM data.tenants), (SELECT count(*) FROM data.notes)",
    leaks: &[
        (
            "ALTER POLICY tenant ON data.notes USING (workspace_id = data.tenant() OR data.tenant() IS NULL)",
            "ALTER POLICY tenant ON data.notes USING (workspace_id = data.tenant())",
            "fails-open",
            "data.notes",
        ),
        (
            "ALTER POLICY tenant ON data.notes WITH CHECK (workspace_id IS NOT NULL)",
            "ALTER POLICY tenant ON data.notes WITH CHECK (workspace_id = data.tenant())",
            "check-leak",
            "data.notes",
        ),
    ],
};

/// Integer keys, tables named by application, one setting.
pub(crate) const DJANGO: Platform = Platform {
    schema: r#"
CREATE ROLE @django NOLOGIN;
CREATE TABLE public.crm_company (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name varchar(100) NOT NULL);
CREATE TABLE public.django_migrations (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, app varchar(255) NOT NULL);
CREATE TABLE public.crm_contact (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, email varchar(254) NOT NULL,
    company_id bigint NOT NULL REFERENCES public.crm_company DEFERRABLE INITIALLY DEFERRED, UNIQUE (company_id, id));
CREATE TABLE public.crm_deal (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, amount numeric(10, 2) NOT NULL,
    contact_id bigint NOT NULL,
    company_id bigint NOT NULL REFERENCES public.crm_company DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (company_id, contact_id) REFERENCES public.crm_contact (company_id, id) DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX ON public.crm_contact (company_id); CREATE INDEX ON public.crm_deal (company_id);
ALTER TABLE public.crm_contact ENABLE ROW LEVEL SECURITY; ALTER TABLE public.crm_contact FORCE ROW LEVEL SECURITY;
ALTER TABLE public.crm_deal ENABLE ROW LEVEL SECURITY; ALTER TABLE public.crm_deal FORCE ROW LEVEL SECURITY;
CREATE POLICY t ON public.crm_contact USING (company_id = nullif(current_setting('app.company', true), '')::bigint);
CREATE POLICY t ON public.crm_deal USING (company_id = nullif(current_setting('app.company', true), '')::bigint);
GRANT USAGE ON SCHEMA public TO @django;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.crm_contact, public.crm_deal TO @django;
GRANT SELECT ON public.django_migrations TO @django;
"#,
    contract: r#"
tenant_column: [tenant_id, company_id]
app_roles: ["@django"]
shared_tables: [public.django_migrations]
context: {set: ["SET LOCAL app.company = '{tenant}'"], tenants: [700001, 700002]}
"#,
    state: "SELECT (SELECT count(*) FROM crm_company), (SELECT count(*) FROM crm_deal)",
    leaks: &[(
        "ALTER TABLE public.crm_deal DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE public.crm_deal ENABLE ROW LEVEL SECURITY",
        "rls-disabled",
        "public.crm_deal",
    )],
};

/// An account and a flag in the session; two roles of the application.
pub(crate) const RAILS: Platform = Platform {
    schema: r#"
CREATE ROLE @web NOLOGIN; CREATE ROLE @jobs NOLOGIN;
CREATE TABLE public.accounts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), subdomain text NOT NULL UNIQUE);
CREATE TABLE public.posts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), account_id uuid NOT NULL REFERENCES public.accounts,
    title text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON public.posts (account_id);
ALTER TABLE public.posts ENABLE ROW LEVEL SECURITY; ALTER TABLE public.posts FORCE ROW LEVEL SECURITY;
CREATE POLICY account ON public.posts USING (account_id = nullif(current_setting('rls.account_id', true), '')::uuid
    AND current_setting('rls.enabled', true) = 'on');
GRANT USAGE ON SCHEMA public TO @web, @jobs;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.posts TO @web, @jobs;
"#,
    contract: r#"
tenant_column: account_id
app_roles: ["@web", "@jobs"]
context: {set: ["SET rls.account_id TO '{tenant}';", "SET LOCAL rls.enabled = 'on'"]}
"#,
    state: "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM posts)",
    leaks: &[
        // The second role alone gets through.
        (
            "CREATE POLICY jobs ON public.posts FOR SELECT TO @jobs USING (true)",
            "DROP POLICY jobs ON public.posts",
            "permissive-leak",
            "public.posts",
        ),
    ],
};

/// Names that need quotes, a text key, and a setting of the application's own.
pub(crate) const HAND_WRITTEN: Platform = Platform {
    schema: r#"
CREATE ROLE "@Äpp user" NOLOGIN;
CREATE SCHEMA "My Data";
CREATE TABLE "My Data"."Order""s" ("Tenant Key" varchar(12) NOT NULL, id integer GENERATED ALWAYS AS IDENTITY, note text NOT NULL,
    PRIMARY KEY ("Tenant Key", id));
ALTER TABLE "My Data"."Order""s" ENABLE ROW LEVEL SECURITY; ALTER TABLE "My Data"."Order""s" FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON "My Data"."Order""s" TO "@Äpp user" USING ("Tenant Key" = current_setting('app.tenant', true));
GRANT USAGE ON SCHEMA "My Data" TO "@Äpp user";
GRANT SELECT, INSERT, UPDATE, DELETE ON "My Data"."Order""s" TO "@Äpp user";
"#,
    contract: r#"
tables: {'My Data.Order"s': Tenant Key}
schemas: [My Data]
app_roles: ["@Äpp user"]
context: {set: "SET LOCAL app.tenant = '{tenant}'"}
"#,
    state: "SELECT count(*) FROM \"My Data\".\"Order\"\"s\"",
    leaks: &[(
        "ALTER POLICY p ON \"My Data\".\"Order\"\"s\" USING (\"Tenant Key\" = current_setting('app.tenant', true) OR current_setting('app.root', true) = 'on')",
        "ALTER POLICY p ON \"My Data\".\"Order\"\"s\" USING (\"Tenant Key\" = current_setting('app.tenant', true))",
        "spoofable-bypass",
        "\"My Data\".\"Order\"\"s\"",
    )],
};
