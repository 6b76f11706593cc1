//! More platforms, for the contract to be guessed. `@` stands for the database's name, which makes roles unique.

use crate::rls_contract::platforms::Platform;

/// A platform whose contract is to be guessed.
pub(crate) struct Style {
    pub(crate) platform: Platform,
    /// The contract as it must come out, as JSON.
    pub(crate) guess: &'static str,
    /// How many questions are left.
    pub(crate) questions: usize,
}

/// The tenant is in the token, where the user cannot write; everybody has the usual privileges.
pub(crate) const SUPABASE_CLAIM: Style = Style {
    platform: Platform {
        schema: r#"
CREATE ROLE @anon NOLOGIN; CREATE ROLE @authenticated NOLOGIN; CREATE ROLE @service_role NOLOGIN BYPASSRLS;
CREATE ROLE @owner NOLOGIN;
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY);
CREATE FUNCTION auth.jwt() RETURNS jsonb STABLE LANGUAGE sql AS $$
    SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
CREATE FUNCTION public.tenant_id() RETURNS uuid STABLE LANGUAGE sql
    AS $$ SELECT ((auth.jwt() -> 'app_metadata') ->> 'tenant_id')::uuid; $$;
GRANT USAGE ON SCHEMA auth, public TO @anon, @authenticated, @service_role;
CREATE TABLE public.tenants (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE public.documents (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL REFERENCES public.tenants, title text NOT NULL,
    UNIQUE (tenant_id, id));
CREATE TABLE public.comments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL REFERENCES public.tenants,
    document_id uuid NOT NULL, body text, FOREIGN KEY (tenant_id, document_id) REFERENCES public.documents (tenant_id, id));
CREATE TABLE public.plans (code text PRIMARY KEY, price numeric NOT NULL);
CREATE INDEX ON public.documents (tenant_id); CREATE INDEX ON public.comments (tenant_id);
ALTER TABLE public.tenants OWNER TO @owner; ALTER TABLE public.documents OWNER TO @owner; ALTER TABLE public.comments OWNER TO @owner;
ALTER TABLE public.tenants ENABLE ROW LEVEL SECURITY; ALTER TABLE public.tenants FORCE ROW LEVEL SECURITY;
ALTER TABLE public.documents ENABLE ROW LEVEL SECURITY; ALTER TABLE public.documents FORCE ROW LEVEL SECURITY;
ALTER TABLE public.comments ENABLE ROW LEVEL SECURITY; ALTER TABLE public.comments FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON public.tenants FOR SELECT TO @authenticated USING (id = (SELECT public.tenant_id()));
CREATE POLICY own ON public.documents TO @authenticated
    USING (tenant_id = (((SELECT auth.jwt()) -> 'app_metadata') ->> 'tenant_id')::uuid);
CREATE POLICY own ON public.comments TO @authenticated USING (tenant_id = (SELECT public.tenant_id()))
    WITH CHECK (tenant_id = (SELECT public.tenant_id()));
GRANT SELECT ON public.tenants TO @authenticated; GRANT SELECT ON public.plans TO @anon, @authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.documents, public.comments TO @authenticated, @anon;
GRANT ALL ON ALL TABLES IN SCHEMA public TO @service_role;
"#,
        contract: "",
        state: "SELECT (SELECT count(*) FROM public.tenants), (SELECT count(*) FROM documents), (SELECT count(*) FROM comments)",
        leaks: &[(
            "ALTER POLICY own ON public.documents USING (tenant_id IS NOT NULL)",
            "ALTER POLICY own ON public.documents USING (tenant_id = public.tenant_id())",
            "permissive-leak",
            "public.documents",
        )],
    },
    guess: r#"{
        "tenant_column": ["tenant_id"], "tables": {"public.tenants": "id"}, "schemas": ["public"],
        "app_roles": ["@authenticated"], "admin_roles": ["@service_role"], "shared_tables": ["public.plans"],
        "context": {"set": ["SELECT set_config('request.jwt.claims', '{\"app_metadata\":{\"tenant_id\":\"{tenant}\"},\"role\":\"{role}\",\"sub\":\"{user}\"}', true)"],
                    "prepare": [], "tenants": "auto"}, "ignore": []}"#,
    questions: 2,
};

/// Functions decide who is a member; a trigger makes a profile of each user; roles are an enumeration.
pub(crate) const SUPABASE_MEMBERS: Style = Style {
    platform: Platform {
        schema: r#"
CREATE ROLE @authenticated NOLOGIN;
CREATE SCHEMA auth; CREATE SCHEMA private;
CREATE TABLE auth.users (id uuid PRIMARY KEY, email text NOT NULL UNIQUE);
CREATE FUNCTION auth.uid() RETURNS uuid STABLE LANGUAGE sql AS
    $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
CREATE TYPE public.level AS ENUM ('viewer', 'admin');
CREATE TABLE public.teams (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);
CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users, nick text NOT NULL);
CREATE FUNCTION private.new_user() RETURNS trigger SECURITY DEFINER SET search_path = '' LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.profiles (id, nick) VALUES (new.id, new.email); RETURN new; END $$;
CREATE TRIGGER new_user AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION private.new_user();
CREATE TABLE public.team_members (
    team_id uuid NOT NULL REFERENCES public.teams, member_id uuid NOT NULL REFERENCES public.profiles,
    level public.level NOT NULL, note text NOT NULL, PRIMARY KEY (team_id, member_id));
CREATE TABLE public.boards (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), team_id uuid NOT NULL REFERENCES public.teams, title text NOT NULL);
CREATE TABLE public.invoices (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), team_id uuid NOT NULL REFERENCES public.teams, amount numeric NOT NULL);
CREATE INDEX ON public.boards (team_id); CREATE INDEX ON public.invoices (team_id);
CREATE FUNCTION private.my_teams() RETURNS SETOF uuid STABLE SECURITY DEFINER SET search_path = '' LANGUAGE sql AS
    $$ SELECT m.team_id FROM public.team_members m WHERE m.member_id = (SELECT auth.uid()) $$;
CREATE FUNCTION private.is_admin(_team uuid) RETURNS boolean STABLE SET search_path = '' LANGUAGE plpgsql AS
    $$ BEGIN RETURN EXISTS (SELECT 1 FROM public.team_members AS tm
         WHERE tm.team_id = _team AND tm.member_id = auth.uid() AND tm.level = 'admin'); END $$;
ALTER TABLE public.team_members ENABLE ROW LEVEL SECURITY; ALTER TABLE public.team_members FORCE ROW LEVEL SECURITY;
ALTER TABLE public.boards ENABLE ROW LEVEL SECURITY; ALTER TABLE public.boards FORCE ROW LEVEL SECURITY;
ALTER TABLE public.invoices ENABLE ROW LEVEL SECURITY; ALTER TABLE public.invoices FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON public.boards TO @authenticated USING (team_id IN (SELECT private.my_teams()));
CREATE POLICY mine ON public.invoices TO @authenticated USING (private.is_admin(team_id));
CREATE POLICY mine ON public.team_members FOR SELECT TO @authenticated
    USING (EXISTS (SELECT 1 FROM private.my_teams() AS t(id) WHERE t.id = team_members.team_id));
GRANT USAGE ON SCHEMA public, private, auth TO @authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.boards, public.invoices TO @authenticated;
GRANT SELECT ON public.team_members TO @authenticated;
"#,
        contract: "",
        state: "SELECT (SELECT count(*) FROM auth.users), (SELECT count(*) FROM public.profiles), (SELECT count(*) FROM boards)",
        leaks: &[(
            "ALTER POLICY mine ON public.invoices USING (EXISTS (SELECT FROM private.my_teams()))",
            "ALTER POLICY mine ON public.invoices USING (private.is_admin(team_id))",
            "permissive-leak",
            "public.invoices",
        )],
    },
    guess: r#"{
        "tenant_column": ["team_id"], "tables": {}, "schemas": ["public"], "app_roles": ["@authenticated"], "admin_roles": [],
        "shared_tables": [],
        "context": {"set": ["SELECT set_config('request.jwt.claims', '{\"role\":\"{role}\",\"sub\":\"{user}\"}', true)"],
                    "prepare": ["INSERT INTO auth.users (id, email) VALUES ('{user}', '{user}')",
                                "INSERT INTO public.profiles (id, nick) VALUES ('{user}', '{user}') ON CONFLICT (id) DO UPDATE SET nick = excluded.nick",
                                "INSERT INTO public.team_members (team_id, member_id, level, note) VALUES ('{tenant}', '{user}', 'admin', '{user}')"],
                    "tenants": "auto"}, "ignore": []}"#,
    questions: 0,
};

/// Claims say the tenant and what its bearer may do; a function in PL/pgSQL reads them; lists of teams.
pub(crate) const POSTGREST_ROLES: Style = Style {
    platform: Platform {
        schema: r#"
CREATE ROLE @web_user NOLOGIN; CREATE ROLE @web_admin NOLOGIN; CREATE ROLE @authenticator LOGIN NOINHERIT;
GRANT @web_user TO @authenticator;
CREATE SCHEMA api;
CREATE FUNCTION api.claim_org() RETURNS integer STABLE LANGUAGE plpgsql AS $$
DECLARE
    claims json := nullif(current_setting('request.jwt.claims', true), '')::json; -- the token
BEGIN
    RETURN (claims ->> 'org')::integer;
END $$;
CREATE TABLE api.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id integer NOT NULL, total numeric NOT NULL);
CREATE TABLE api.files (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, organization_id integer NOT NULL, path text NOT NULL);
CREATE INDEX ON api.orders (organization_id); CREATE INDEX ON api.files (organization_id);
ALTER TABLE api.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE api.orders FORCE ROW LEVEL SECURITY;
ALTER TABLE api.files ENABLE ROW LEVEL SECURITY; ALTER TABLE api.files FORCE ROW LEVEL SECURITY;
CREATE POLICY u ON api.orders TO @web_user USING (organization_id = (SELECT api.claim_org()));
CREATE POLICY a ON api.orders FOR SELECT TO @web_admin USING (true);
CREATE POLICY u ON api.files TO @web_user USING (organization_id = (nullif(current_setting('request.jwt.claims', true), '')::json #>> '{org}')::int
    AND nullif(current_setting('request.jwt.claims', true), '')::json ->> 'scope' = 'files');
GRANT USAGE ON SCHEMA api TO @web_user, @web_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON api.orders, api.files TO @web_user;
GRANT SELECT ON api.orders TO @web_admin;
"#,
        contract: "",
        state: "SELECT (SELECT count(*) FROM api.orders), (SELECT count(*) FROM api.files)",
        leaks: &[(
            "CREATE POLICY all_of_it ON api.orders FOR SELECT TO @web_user
                 USING (current_setting('request.jwt.claims', true)::json ->> 'org' IS NOT NULL)",
            "DROP POLICY all_of_it ON api.orders",
            "permissive-leak",
            "api.orders",
        )],
    },
    guess: r#"{
        "tenant_column": ["organization_id"], "tables": {}, "schemas": ["api"], "app_roles": ["@web_user"],
        "admin_roles": ["@web_admin"], "shared_tables": [],
        "context": {"set": ["SELECT set_config('request.jwt.claims', '{\"org\":\"{tenant}\",\"scope\":\"files\",\"role\":\"{role}\",\"sub\":\"{user}\"}', true)"],
                    "prepare": [], "tenants": "auto"}, "ignore": []}"#,
    questions: 1,
};

/// One setting, one login that runs everything, migrations of its own, a table of the tenants that it may not read.
pub(crate) const DJANGO_SETTING: Style = Style {
    platform: Platform {
        schema: r#"
CREATE ROLE @web LOGIN; CREATE ROLE @migrator NOLOGIN;
CREATE TABLE public.tenants_tenant (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), domain varchar(253) NOT NULL UNIQUE);
CREATE TABLE public.django_migrations (id integer PRIMARY KEY, name varchar(255) NOT NULL);
CREATE TABLE public.shop_order (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES public.tenants_tenant,
    status varchar(20) NOT NULL, UNIQUE (tenant_id, id));
CREATE TABLE public.shop_line (
    id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES public.tenants_tenant,
    order_id bigint NOT NULL, sku varchar(40) NOT NULL,
    FOREIGN KEY (tenant_id, order_id) REFERENCES public.shop_order (tenant_id, id) DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX ON public.shop_order (tenant_id); CREATE INDEX ON public.shop_line (tenant_id);
ALTER TABLE public.shop_order OWNER TO @migrator; ALTER TABLE public.shop_line OWNER TO @migrator;
ALTER TABLE public.shop_order ENABLE ROW LEVEL SECURITY; ALTER TABLE public.shop_order FORCE ROW LEVEL SECURITY;
ALTER TABLE public.shop_line ENABLE ROW LEVEL SECURITY; ALTER TABLE public.shop_line FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON public.shop_order USING (tenant_id = (SELECT nullif(current_setting('app.tenant', true), '')::uuid));
CREATE POLICY tenant ON public.shop_line USING (tenant_id = (SELECT nullif(current_setting('app.tenant', true), '')::uuid));
GRANT USAGE ON SCHEMA public TO @web; GRANT USAGE ON SCHEMA public TO @migrator;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.shop_order, public.shop_line TO @web;
GRANT SELECT ON public.django_migrations TO @web;
"#,
        contract: "",
        state: "SELECT (SELECT count(*) FROM tenants_tenant), (SELECT count(*) FROM shop_order), (SELECT count(*) FROM shop_line)",
        leaks: &[
            (
                "GRANT SELECT ON public.tenants_tenant TO @web",
                "REVOKE SELECT ON public.tenants_tenant FROM @web",
                "rls-disabled",
                "public.tenants_tenant",
            ),
            (
                "ALTER POLICY tenant ON public.shop_line USING (tenant_id = current_setting('app.tenant', true)::uuid) WITH CHECK (true)",
                "ALTER POLICY tenant ON public.shop_line USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
                     WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)",
                "check-leak",
                "public.shop_line",
            ),
        ],
    },
    guess: r#"{
        "tenant_column": ["tenant_id"], "tables": {}, "schemas": ["public"], "app_roles": ["@web"], "admin_roles": [],
        "shared_tables": ["public.django_migrations"],
        "context": {"set": ["SELECT set_config('app.tenant', '{tenant}', true)"], "prepare": [], "tenants": "auto"}, "ignore": []}"#,
    questions: 1,
};

/// Numbers for keys, a function for the account, a table whose column is called otherwise, and a partitioned one.
pub(crate) const LARAVEL: Style = Style {
    platform: Platform {
        schema: r#"
CREATE ROLE @laravel LOGIN; CREATE ROLE @schema_owner NOLOGIN;
CREATE TABLE public.accounts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(255) NOT NULL);
CREATE FUNCTION public.current_account() RETURNS bigint STABLE LANGUAGE plpgsql AS $$
DECLARE
    v text := current_setting('laravel.account_id', true);
BEGIN
    IF v IS NULL OR v = '' THEN RETURN NULL; END IF;
    RETURN v::bigint;
END $$;
CREATE TABLE public.contacts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id bigint NOT NULL REFERENCES public.accounts, email varchar(255) NOT NULL);
CREATE TABLE public.invoices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id bigint NOT NULL REFERENCES public.accounts, cents bigint NOT NULL);
CREATE TABLE public.events (
    account_id bigint NOT NULL, happened timestamptz NOT NULL DEFAULT now(), what text NOT NULL) PARTITION BY RANGE (happened);
CREATE TABLE public.events_all PARTITION OF public.events DEFAULT;
CREATE INDEX ON public.contacts (account_id); CREATE INDEX ON public.invoices (account_id); CREATE INDEX ON public.events (account_id);
ALTER TABLE public.accounts OWNER TO @schema_owner; ALTER TABLE public.contacts OWNER TO @schema_owner;
ALTER TABLE public.invoices OWNER TO @schema_owner; ALTER TABLE public.events OWNER TO @schema_owner; ALTER TABLE public.events_all OWNER TO @schema_owner;
ALTER TABLE public.accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE public.accounts FORCE ROW LEVEL SECURITY;
ALTER TABLE public.contacts ENABLE ROW LEVEL SECURITY; ALTER TABLE public.contacts FORCE ROW LEVEL SECURITY;
ALTER TABLE public.invoices ENABLE ROW LEVEL SECURITY; ALTER TABLE public.invoices FORCE ROW LEVEL SECURITY;
ALTER TABLE public.events ENABLE ROW LEVEL SECURITY; ALTER TABLE public.events FORCE ROW LEVEL SECURITY;
ALTER TABLE public.events_all ENABLE ROW LEVEL SECURITY; ALTER TABLE public.events_all FORCE ROW LEVEL SECURITY;
CREATE POLICY account ON public.accounts FOR SELECT USING (id = (SELECT public.current_account()));
CREATE POLICY account ON public.contacts USING (account_id = (SELECT public.current_account()));
CREATE POLICY account ON public.invoices USING (account_id = (SELECT public.current_account()));
CREATE POLICY account ON public.events USING (account_id = (SELECT public.current_account()));
CREATE POLICY account ON public.events_all USING (account_id = (SELECT public.current_account()));
GRANT USAGE ON SCHEMA public TO @laravel; GRANT USAGE ON SCHEMA public TO @schema_owner;
GRANT SELECT ON public.accounts TO @laravel;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.contacts, public.invoices, public.events TO @laravel;
"#,
        contract: "",
        state: "SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM contacts), (SELECT count(*) FROM events)",
        leaks: &[(
            "CREATE POLICY lists ON public.contacts FOR SELECT USING (email LIKE '%')",
            "DROP POLICY lists ON public.contacts",
            "permissive-leak",
            "public.contacts",
        )],
    },
    guess: r#"{
        "tenant_column": ["account_id"], "tables": {"public.accounts": "id"}, "schemas": ["public"], "app_roles": ["@laravel"],
        "admin_roles": [], "shared_tables": [],
        "context": {"set": ["SELECT set_config('laravel.account_id', '{tenant}', true)"], "prepare": [], "tenants": "auto"}, "ignore": []}"#,
    questions: 0,
};

/// A text for a key, names that need quotes, a bypass that only a setting opens, and a flag that must be set.
pub(crate) const TEXT_KEYS: Style = Style {
    platform: Platform {
        schema: r#"
CREATE ROLE "@App #1" LOGIN; CREATE ROLE @holder NOLOGIN;
CREATE SCHEMA "Back Office";
CREATE TABLE "Back Office"."Jobs: all" (
    "Customer" text NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), done boolean NOT NULL, PRIMARY KEY ("Customer", id));
CREATE TABLE "Back Office".logs ("Customer" text NOT NULL, line text NOT NULL);
CREATE INDEX ON "Back Office".logs ("Customer");
ALTER TABLE "Back Office"."Jobs: all" OWNER TO @holder; ALTER TABLE "Back Office".logs OWNER TO @holder;
ALTER TABLE "Back Office"."Jobs: all" ENABLE ROW LEVEL SECURITY; ALTER TABLE "Back Office"."Jobs: all" FORCE ROW LEVEL SECURITY;
ALTER TABLE "Back Office".logs ENABLE ROW LEVEL SECURITY; ALTER TABLE "Back Office".logs FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON "Back Office"."Jobs: all" USING ("Customer" = current_setting('session.user', true));
CREATE POLICY p ON "Back Office".logs USING ("Customer" = current_setting('session.user', true) AND current_setting('session.mode', true) = 'it''s on');
GRANT USAGE ON SCHEMA "Back Office" TO "@App #1", @holder;
GRANT SELECT, INSERT, UPDATE, DELETE ON "Back Office"."Jobs: all", "Back Office".logs TO "@App #1";
"#,
        contract: "",
        state: "SELECT (SELECT count(*) FROM \"Back Office\".\"Jobs: all\"), (SELECT count(*) FROM \"Back Office\".logs)",
        leaks: &[
            (
                "ALTER POLICY p ON \"Back Office\".\"Jobs: all\" USING (\"Customer\" = current_setting('session.user', true)
                     OR current_setting('session.sudo', true) = 'on')",
                "ALTER POLICY p ON \"Back Office\".\"Jobs: all\" USING (\"Customer\" = current_setting('session.user', true))",
                "spoofable-bypass",
                "\"Back Office\".\"Jobs: all\"",
            ),
            (
                "ALTER TABLE \"Back Office\".logs DISABLE ROW LEVEL SECURITY",
                "ALTER TABLE \"Back Office\".logs ENABLE ROW LEVEL SECURITY",
                "rls-disabled",
                "\"Back Office\".logs",
            ),
        ],
    },
    guess: r#"{
        "tenant_column": ["Customer"], "tables": {}, "schemas": ["Back Office"], "app_roles": ["@App #1"], "admin_roles": [],
        "shared_tables": [],
        "context": {"set": ["SELECT set_config('session.mode', 'it''s on', true)", "SELECT set_config('session.user', '{tenant}', true)"],
                    "prepare": [], "tenants": "auto"}, "ignore": []}"#,
    questions: 0,
};

/// Each user is a tenant.
pub(crate) const PERSONAL: Style = Style {
    platform: Platform {
        schema: r#"
CREATE ROLE @authenticated NOLOGIN;
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY);
CREATE FUNCTION auth.uid() RETURNS uuid STABLE LANGUAGE sql AS
    $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
CREATE TABLE public.todos (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id uuid NOT NULL REFERENCES auth.users, task text NOT NULL);
CREATE TABLE public.profiles (id uuid PRIMARY KEY REFERENCES auth.users, name text NOT NULL);
CREATE INDEX ON public.todos (user_id);
ALTER TABLE public.todos ENABLE ROW LEVEL SECURITY; ALTER TABLE public.todos FORCE ROW LEVEL SECURITY;
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY; ALTER TABLE public.profiles FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON public.todos TO @authenticated USING ((SELECT auth.uid()) = user_id);
CREATE POLICY own ON public.profiles TO @authenticated USING ((SELECT auth.uid()) = id);
GRANT USAGE ON SCHEMA auth, public TO @authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.todos, public.profiles TO @authenticated;
"#,
        contract: "",
        state: "SELECT (SELECT count(*) FROM auth.users), (SELECT count(*) FROM todos)",
        leaks: &[(
            "CREATE POLICY read ON public.profiles FOR SELECT TO @authenticated USING (auth.uid() IS NOT NULL)",
            "DROP POLICY read ON public.profiles",
            "permissive-leak",
            "public.profiles",
        )],
    },
    guess: r#"{
        "tenant_column": ["user_id"], "tables": {"public.profiles": "id"}, "schemas": ["public"], "app_roles": ["@authenticated"],
        "admin_roles": [], "shared_tables": [],
        "context": {"set": ["SELECT set_config('request.jwt.claims', '{\"role\":\"{role}\",\"sub\":\"{tenant}\"}', true)"],
                    "prepare": [], "tenants": "auto"}, "ignore": []}"#,
    questions: 0,
};

/// A profile for each user says the tenant; a user has but one.
pub(crate) const SUPABASE_PROFILES: Style = Style {
    platform: Platform {
        schema: r#"
CREATE ROLE @authenticated NOLOGIN;
CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY);
CREATE FUNCTION auth.uid() RETURNS uuid STABLE LANGUAGE sql AS
    $$ SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
CREATE TABLE public.companies (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);
CREATE TABLE public.profiles (
    id uuid PRIMARY KEY REFERENCES auth.users, company_id uuid NOT NULL REFERENCES public.companies, full_name text);
CREATE TABLE public.invoices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, company_id uuid NOT NULL REFERENCES public.companies, cents bigint NOT NULL);
CREATE INDEX ON public.profiles (company_id); CREATE INDEX ON public.invoices (company_id);
ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY; ALTER TABLE public.profiles FORCE ROW LEVEL SECURITY;
ALTER TABLE public.invoices ENABLE ROW LEVEL SECURITY; ALTER TABLE public.invoices FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON public.profiles FOR SELECT TO @authenticated USING (id = auth.uid());
CREATE POLICY own ON public.invoices TO @authenticated
    USING (company_id = (SELECT p.company_id FROM public.profiles p WHERE p.id = auth.uid()));
GRANT USAGE ON SCHEMA auth, public TO @authenticated;
GRANT SELECT ON public.profiles TO @authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON public.invoices TO @authenticated;
"#,
        contract: "",
        state: "SELECT (SELECT count(*) FROM auth.users), (SELECT count(*) FROM profiles), (SELECT count(*) FROM invoices)",
        leaks: &[
            (
                "CREATE POLICY all_of_them ON public.profiles FOR SELECT TO @authenticated USING (full_name IS NULL)",
                "DROP POLICY all_of_them ON public.profiles",
                "permissive-leak",
                "public.profiles",
            ),
            (
                "ALTER POLICY own ON public.invoices WITH CHECK (cents >= 0)",
                "ALTER POLICY own ON public.invoices
                     WITH CHECK (company_id = (SELECT p.company_id FROM public.profiles p WHERE p.id = auth.uid()))",
                "check-leak",
                "public.invoices",
            ),
        ],
    },
    guess: r#"{
        "tenant_column": ["company_id"], "tables": {}, "schemas": ["public"], "app_roles": ["@authenticated"], "admin_roles": [],
        "shared_tables": [],
        "context": {"set": ["SELECT set_config('request.jwt.claims', '{\"role\":\"{role}\",\"sub\":\"{user}\"}', true)"],
                    "prepare": ["INSERT INTO auth.users (id) VALUES ('{user}')",
                                "INSERT INTO public.profiles (id, company_id) VALUES ('{user}', '{tenant}')"],
                    "tenants": "auto"}, "ignore": []}"#,
    questions: 0,
};
