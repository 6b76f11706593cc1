//! Doors that no policy stands at: leaky views and functions, foreign tables, extensions, publications.

use tenancy::rls::Severity::{Error, Warning};

use super::{assert_quiet, assert_silent, common, find, mended, verified};

#[tokio::test]
async fn a_view_without_a_barrier_is_found() {
    let report = mended(
        "CREATE SCHEMA \"sales \"\"eu\"; GRANT USAGE ON SCHEMA \"sales \"\"eu\" TO tenancy_app;
         CREATE VIEW \"sales \"\"eu\".\"My Tickets\" AS
             SELECT * FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id();
         CREATE VIEW public.above WITH (security_invoker) AS SELECT * FROM \"sales \"\"eu\".\"My Tickets\" WHERE price > 1;
         GRANT SELECT ON \"sales \"\"eu\".\"My Tickets\", public.above TO tenancy_app",
        &[(Warning, "view-leaky", "\"sales \"\"eu\".\"My Tickets\"")],
    )
    .await;
    assert!(find(&report, "view-leaky", "public.above").is_none(), "{report:#?}");
}

#[tokio::test]
async fn a_function_sees_hidden_rows_where_there_is_no_barrier() {
    // What the check is about: the same statement through the same view, with and without the barrier.
    let db = common::Database::migrated().await;
    db.sql(
        "CREATE TABLE public.notes (tenant_id uuid NOT NULL, body text);
         INSERT INTO public.notes VALUES (gen_random_uuid(), 'of another tenant');
         CREATE VIEW public.mine AS SELECT * FROM public.notes WHERE tenant_id = tenancy.current_tenant_id();
         GRANT SELECT ON public.mine TO tenancy_app;
         CREATE FUNCTION public.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
             $$ BEGIN RAISE EXCEPTION 'seen: %', $1; END $$;",
    );
    let role = db.app_login();
    let peek = "SELECT * FROM public.mine WHERE public.peek(body)";
    assert!(db.psql_as(&role, None, peek).stderr.contains("seen: of another tenant"));
    db.sql("ALTER VIEW public.mine SET (security_barrier = true)");
    db.psql_as(&role, None, peek).expect(0);
}

#[tokio::test]
async fn views_that_leak_nothing_are_silent() {
    let report = verified(
        "CREATE VIEW public.barred WITH (security_barrier) AS
             SELECT * FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id();
         CREATE VIEW public.over_it AS SELECT * FROM public.barred WHERE price > 1;
         CREATE VIEW public.invoker WITH (security_invoker) AS
             SELECT * FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id();
         CREATE VIEW public.bound AS SELECT * FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id();
         ALTER VIEW public.bound OWNER TO tenancy_owner;
         CREATE VIEW public.unreachable AS SELECT * FROM public.tickets WHERE tenant_id = tenancy.current_tenant_id();
         CREATE VIEW public.elsewhere AS SELECT * FROM public.countries WHERE code = current_setting('app.country', true);
         GRANT SELECT ON public.barred, public.over_it, public.invoker, public.bound, public.elsewhere TO tenancy_app",
    )
    .await;
    assert_silent(&report, "view-leaky");
}

#[tokio::test]
async fn a_leakproof_function_is_found() {
    let report = mended(
        "CREATE FUNCTION public.\"Peek \"\"it\"(\"of what\" text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF COST 0.0001 AS
             $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;
         CREATE FUNCTION public.revoked(text) RETURNS boolean LANGUAGE sql LEAKPROOF AS 'SELECT true';
         REVOKE EXECUTE ON FUNCTION public.revoked FROM PUBLIC;
         CREATE FUNCTION public.plain(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION public.blind() RETURNS boolean LANGUAGE sql LEAKPROOF AS 'SELECT true';",
        &[(Error, "function-leakproof", "public.\"Peek \"\"it\"(\"of what\" text)")],
    )
    .await;
    let found = report.findings.iter().filter(|finding| finding.check == "function-leakproof").count();
    assert_eq!(found, 1, "{report:#?}");
}

#[tokio::test]
async fn a_definer_function_without_a_search_path_is_found() {
    let body = "LANGUAGE sql SECURITY DEFINER";
    let report = mended(
        &format!(
            "CREATE SCHEMA \"the \"\"lib\"; CREATE SCHEMA scratch; GRANT CREATE, USAGE ON SCHEMA scratch TO tenancy_app;
             GRANT USAGE ON SCHEMA \"the \"\"lib\" TO tenancy_app;
             CREATE FUNCTION \"the \"\"lib\".\"Un pinned\"(\"a b\" text) RETURNS boolean {body} AS 'SELECT true';
             CREATE FUNCTION public.shadowed() RETURNS boolean {body} SET search_path = \"the \"\"lib\", public AS 'SELECT true';
             CREATE FUNCTION public.writable() RETURNS boolean {body} SET search_path = scratch, public, pg_temp AS 'SELECT true';
             CREATE PROCEDURE public.proc() {body} AS 'SELECT 1';
             CREATE FUNCTION public.stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
                 $$ BEGIN RETURN NEW; END $$;
             REVOKE EXECUTE ON FUNCTION public.stamp FROM PUBLIC;
             CREATE TRIGGER stamp BEFORE INSERT ON public.events FOR EACH ROW EXECUTE FUNCTION public.stamp();"
        ),
        &[
            (Warning, "function-search-path", "\"the \"\"lib\".\"Un pinned\"(\"a b\" text)"),
            (Warning, "function-search-path", "public.shadowed()"),
            (Warning, "function-search-path", "public.writable()"),
            (Warning, "function-search-path", "public.proc()"),
            (Warning, "function-search-path", "public.stamp()"),
        ],
    )
    .await;
    let fix = &find(&report, "function-search-path", "public.writable()").expect("a finding").fix;
    assert!(fix.ends_with("SET search_path = pg_catalog, public, pg_temp;"), "{fix}");
}

#[tokio::test]
async fn a_temporary_table_shadows_where_pg_temp_is_not_last() {
    // What the check is about.
    let db = common::Database::migrated().await;
    db.sql(
        "CREATE TABLE public.members (name text); 
         CREATE FUNCTION public.is_member() RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = public AS
             'SELECT EXISTS (SELECT FROM members WHERE name = session_user)';",
    );
    let role = db.app_login();
    let attack =
        "CREATE TEMP TABLE members AS SELECT session_user::text AS name; GRANT SELECT ON members TO PUBLIC;
                  SELECT public.is_member()";
    assert_eq!(db.psql_as(&role, None, attack).expect(0).stdout.trim(), "t");
    db.sql("ALTER FUNCTION public.is_member() SET search_path = pg_catalog, public, pg_temp");
    assert_eq!(db.psql_as(&role, None, attack).expect(0).stdout.trim(), "f");
}

#[tokio::test]
async fn definer_functions_that_know_their_tables_are_silent() {
    let body = "LANGUAGE sql SECURITY DEFINER";
    let report = verified(&format!(
        "CREATE FUNCTION public.empty() RETURNS boolean {body} SET search_path = '' AS 'SELECT true';
         CREATE FUNCTION public.pinned() RETURNS boolean {body} SET search_path = public, pg_temp AS 'SELECT true';
         CREATE FUNCTION public.system() RETURNS boolean {body} SET search_path = pg_catalog AS 'SELECT true';
         CREATE FUNCTION public.standard() RETURNS boolean {body} RETURN true;
         CREATE FUNCTION public.invoker() RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION public.own() RETURNS boolean {body} AS 'SELECT true';
         ALTER FUNCTION public.own OWNER TO tenancy_app;
         CREATE FUNCTION public.revoked() RETURNS boolean {body} AS 'SELECT true';
         REVOKE EXECUTE ON FUNCTION public.revoked FROM PUBLIC;"
    ))
    .await;
    assert_quiet(&report);
    assert_silent(&report, "function-search-path");
}

#[tokio::test]
async fn foreign_tables_and_servers_are_found() {
    let report = mended(
        "CREATE FOREIGN DATA WRAPPER \"any thing\"; CREATE SERVER \"far \"\"away\" FOREIGN DATA WRAPPER \"any thing\";
         CREATE SERVER other FOREIGN DATA WRAPPER \"any thing\";
         CREATE USER MAPPING FOR PUBLIC SERVER other;
         CREATE FOREIGN TABLE public.\"In voices\" (tenant_id uuid NOT NULL, total numeric) SERVER other;
         CREATE FOREIGN TABLE public.unreachable (code text) SERVER other;
         CREATE FOREIGN TABLE public.rates (code text) SERVER other;
         INSERT INTO tenancy.protected_tables (relation, kind) VALUES ('public.rates', 'shared');
         GRANT SELECT ON public.\"In voices\", public.rates TO tenancy_app;
         GRANT USAGE ON FOREIGN SERVER \"far \"\"away\" TO tenancy_app;
         GRANT USAGE ON FOREIGN DATA WRAPPER \"any thing\" TO tenancy_app",
        &[
            (Error, "foreign-table", "public.\"In voices\""),
            (Warning, "foreign-table", "\"far \"\"away\""),
            (Warning, "dangerous-extension", "\"any thing\""),
        ],
    )
    .await;
    let found = report.findings.iter().filter(|finding| finding.check == "foreign-table").count();
    assert_eq!(found, 2, "{report:#?}");
    let finding = find(&report, "foreign-table", "public.\"In voices\"").expect("a finding");
    assert!(finding.evidence.contains("user mapping for PUBLIC"), "{finding:#?}");
}

#[tokio::test]
async fn a_language_without_bounds_is_found() {
    // Any handler will do: what makes a language dangerous is that it is not declared TRUSTED.
    let report = mended(
        "CREATE LANGUAGE \"un bound\" HANDLER plpgsql_call_handler;
         CREATE FUNCTION public.shell(\"what to do\" text) RETURNS int LANGUAGE \"un bound\" AS 'BEGIN RETURN 1; END';
         CREATE FUNCTION public.revoked() RETURNS int LANGUAGE \"un bound\" AS 'BEGIN RETURN 1; END';
         REVOKE EXECUTE ON FUNCTION public.revoked FROM PUBLIC;",
        &[(Warning, "dangerous-extension", "\"un bound\"")],
    )
    .await;
    let finding = find(&report, "dangerous-extension", "\"un bound\"").expect("a finding");
    assert_eq!(finding.evidence, "EXECUTE on shell(text)");
}

#[tokio::test]
async fn dblink_is_found_where_the_server_has_it() {
    let db = common::Database::migrated().await;
    // A server without it, or whose libraries do not fit together, has no such door.
    db.sql(
        "DO $$ BEGIN CREATE EXTENSION dblink; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLERRM; END $$",
    );
    if db.sql("SELECT count(*) FROM pg_extension WHERE extname = 'dblink'") == "0" {
        return;
    }
    let report = mended("CREATE EXTENSION dblink", &[(Warning, "dangerous-extension", "dblink")]).await;
    assert_silent(&report, "foreign-table");
    let report = verified(
        "CREATE SCHEMA kept_away; CREATE EXTENSION dblink SCHEMA kept_away; REVOKE ALL ON SCHEMA kept_away FROM PUBLIC",
    )
    .await;
    assert_quiet(&report);
    assert_silent(&report, "dangerous-extension");
}

#[tokio::test]
async fn publications_of_every_tenant_are_found() {
    let rows = "WHERE (tenant_id = '7f0c1d9e-0000-4000-8000-000000000001')";
    let report = mended(
        &format!(
            "CREATE TABLE public.parts (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id)) PARTITION BY RANGE (id);
             CREATE TABLE public.parts_1 PARTITION OF public.parts FOR VALUES FROM (0) TO (10);
             CREATE PUBLICATION \"every \"\"thing\" FOR ALL TABLES;
             CREATE SCHEMA empty_one;
             CREATE PUBLICATION both_ways FOR TABLE public.events, TABLES IN SCHEMA public;
             CREATE PUBLICATION parted FOR TABLE public.parts;
             CREATE PUBLICATION filtered FOR TABLE public.events {rows};
             CREATE PUBLICATION reference FOR TABLE public.countries;
             CREATE PUBLICATION nothing FOR TABLES IN SCHEMA empty_one;"
        ),
        &[
            (Warning, "publication-unfiltered", "\"every \"\"thing\""),
            (Warning, "publication-unfiltered", "both_ways"),
            (Warning, "publication-unfiltered", "parted"),
        ],
    )
    .await;
    let found = report.findings.iter().filter(|finding| finding.check == "publication-unfiltered").count();
    assert_eq!(found, 3, "{report:#?}");
}
