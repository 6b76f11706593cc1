//! `rls contract init`: the contract that is guessed is the one that its people would write, and it verifies.

use serde_json::Value;

use super::{Built, assert_leak, assert_proven, platforms, styles};
use crate::common::Database;
use crate::rls_contract::platforms::Platform;
use crate::rls_contract::styles::Style;

/// The contract that is guessed, as a file and as data.
fn guessed(built: &Built) -> (String, Value) {
    let file = built.database.tenantctl(&["rls", "contract", "init"]).expect(0);
    let data = built.database.tenantctl(&["rls", "contract", "init", "-o", "json"]).expect(0).json();
    (file.stdout, data)
}

/// Clean it is proven; with each leak that is found, with the contract of the clean one and with one guessed then.
async fn prove(platform: &Platform) -> (Built, Value) {
    let mut built = Built::new(platform).await;
    let before = built.database.sql(platform.state);
    let (contract, data) = guessed(&built);
    built.contract = contract;
    assert_proven(&built.verified().await);
    for (plant, undo, check, object) in platform.leaks {
        built.change(plant).await;
        let with_leak = guessed(&built).0;
        if !object.ends_with("tenants_tenant") {
            assert_leak(&built.verified().await, check, object);
        }
        assert_leak(&built.verified_by(&with_leak).await, check, object);
        built.change(undo).await;
    }
    assert_proven(&built.verified().await);
    assert_eq!(built.database.sql(platform.state), before, "everything is rolled back");
    (built, data)
}

async fn prove_style(style: &Style) {
    let (built, data) = prove(&style.platform).await;
    let expected = style.guess.replace("@", &format!("{}_", built.database.name));
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    assert_eq!(unordered(&data["contract"]), unordered(&expected), "{data:#}");
    assert_eq!(data["questions"].as_array().expect("a list").len(), style.questions, "{data:#}");
    assert_eq!(data["complete"], style.questions == 0);
    for key in ["tenant_column", "app_roles", "context.set"] {
        let reasons = data["reasons"].as_array().expect("a list");
        assert!(reasons.iter().any(|reason| reason["key"] == key), "{key}: {data:#}");
    }
}

/// Statements of a context with their JSON sorted: the order of claims means nothing.
fn unordered(contract: &Value) -> Value {
    let mut contract = contract.clone();
    for statement in contract["context"]["set"].as_array_mut().expect("a list") {
        let text = statement.as_str().expect("a text");
        if let (Some(from), Some(to)) = (text.find('{'), text.rfind('}'))
            && let Ok(claims) =
                serde_json::from_str::<std::collections::BTreeMap<String, Value>>(&text[from..=to])
        {
            *statement = serde_json::json!([&text[..from], claims, &text[to + 1..]]);
        }
    }
    contract
}

#[tokio::test]
async fn supabase_with_a_claim() {
    prove_style(&styles::SUPABASE_CLAIM).await;
}

#[tokio::test]
async fn supabase_with_functions_for_members() {
    prove_style(&styles::SUPABASE_MEMBERS).await;
}

#[tokio::test]
async fn supabase_with_a_profile_for_each_user() {
    prove_style(&styles::SUPABASE_PROFILES).await;
}

#[tokio::test]
async fn postgrest_with_roles_and_scopes() {
    prove_style(&styles::POSTGREST_ROLES).await;
}

#[tokio::test]
async fn django_with_a_setting() {
    prove_style(&styles::DJANGO_SETTING).await;
}

#[tokio::test]
async fn laravel_with_numbers() {
    prove_style(&styles::LARAVEL).await;
}

#[tokio::test]
async fn texts_and_odd_names() {
    prove_style(&styles::TEXT_KEYS).await;
}

#[tokio::test]
async fn each_user_a_tenant() {
    prove_style(&styles::PERSONAL).await;
}

#[tokio::test]
async fn the_platforms_whose_contracts_are_written_by_hand() {
    for platform in [
        &platforms::SUPABASE,
        &platforms::POSTGREST,
        &platforms::DJANGO,
        &platforms::RAILS,
        &platforms::HAND_WRITTEN,
    ] {
        prove(platform).await;
    }
}

/// A database with these statements, `@` standing for its name.
async fn built(schema: &'static str) -> Built {
    Built::new(&Platform { schema, contract: "", state: "", leaks: &[] }).await
}

fn asks(data: &Value, key: &str, part: &str) -> bool {
    let questions = data["questions"].as_array().expect("a list");
    questions
        .iter()
        .any(|ask| ask["key"] == key && ask["text"].as_str().is_some_and(|text| text.contains(part)))
}

#[tokio::test]
async fn what_no_policy_says_is_asked() {
    let built = built(
        "CREATE ROLE @app LOGIN; GRANT USAGE ON SCHEMA public TO @app;
         CREATE TABLE public.a (tenant_id uuid NOT NULL, x text); CREATE TABLE public.b (tenant_id uuid NOT NULL);
         CREATE TABLE public.c (org_id uuid NOT NULL); CREATE TABLE public.log (line text);
         GRANT SELECT, INSERT ON public.a, public.b, public.log TO @app",
    )
    .await;
    let (file, data) = guessed(&built);
    assert!(file.contains("# 2 of 4 tables have tenant_id; no policy compares"), "{file}");
    assert!(file.contains("# TODO: Is the tenant in tenant_id?"), "{file}");
    assert!(asks(&data, "context.set", "Which one does the application set"), "{data:#}");
    assert!(asks(&data, "tables", "Whose rows are in public.log?"), "{data:#}");
    assert_eq!(data["complete"], false);
    assert_leak(&built.verified_by(&file).await, "rls-disabled", "public.a");
}

#[tokio::test]
async fn where_nothing_can_be_guessed_it_says_what_is_missing() {
    let empty = Database::empty().await;
    let error = empty.refused(2, &["rls", "contract", "init"]);
    assert!(error["message"].as_str().expect("a text").contains("tenant column"), "{error}");
    assert!(error["hint"].as_str().expect("a text").contains("--tenant-column"), "{error}");
    let built = built("CREATE TABLE public.t (shop uuid NOT NULL, tenant_id uuid)").await;
    let database = &built.database;
    let error = database.refused(2, &["rls", "contract", "init"]);
    assert!(error["hint"].as_str().expect("a text").contains("--role"), "{error}");
    database.refused(3, &["rls", "contract", "init", "--role", "nobody_of_that_name"]);
    database.refused(3, &["rls", "contract", "init", "--tenant-column", "nothing"]);
    let role = format!("{}_app", database.name);
    database.sql(&format!("CREATE ROLE {role}"));
    let json = database.json(&["rls", "contract", "init", "--role", &role, "--tenant-column", "shop"]);
    assert_eq!(json["contract"]["tenant_column"], serde_json::json!(["shop"]));
    assert_eq!(json["contract"]["app_roles"], serde_json::json!([role]));
}

#[tokio::test]
async fn children_and_tables_of_users_are_not_taken_for_tenants() {
    let built = built(
        "CREATE ROLE @app LOGIN; GRANT USAGE ON SCHEMA public TO @app;
         CREATE TABLE public.orders (id uuid PRIMARY KEY, org uuid NOT NULL);
         CREATE TABLE public.lines (order_id uuid NOT NULL REFERENCES public.orders, n int);
         CREATE TABLE public.parts (order_id uuid NOT NULL REFERENCES public.orders, n int);
         CREATE TABLE public.drafts (user_id uuid NOT NULL, n int);
         ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE public.lines ENABLE ROW LEVEL SECURITY;
         ALTER TABLE public.parts ENABLE ROW LEVEL SECURITY; ALTER TABLE public.drafts ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON public.orders USING (org = nullif(current_setting('my.org', true), '')::uuid
             OR current_setting('my.sudo', true) = 'on');
         CREATE POLICY p ON public.lines USING (EXISTS (SELECT FROM public.orders o
             WHERE o.id = lines.order_id AND o.org = nullif(current_setting('my.org', true), '')::uuid));
         CREATE POLICY p ON public.parts USING (order_id IN (SELECT id FROM public.orders
             WHERE org = nullif(current_setting('my.org', true), '')::uuid));
         CREATE POLICY p ON public.drafts USING (user_id = nullif(current_setting('my.user_id', true), '')::uuid
             AND current_setting('my.region', true) <> '');
         CREATE POLICY q ON public.drafts USING (current_setting('my.mode', true) = 'boss');
         GRANT SELECT, INSERT ON public.orders, public.lines, public.parts, public.drafts TO @app",
    )
    .await;
    let (file, data) = guessed(&built);
    assert_eq!(data["contract"]["tenant_column"], serde_json::json!(["org"]), "{data:#}");
    assert_eq!(data["contract"]["tables"], serde_json::json!({}), "{data:#}");
    let set = data["contract"]["context"]["set"].as_array().expect("a list");
    assert_eq!(
        set,
        &["SELECT set_config('my.org', '{tenant}', true)", "SELECT set_config('my.user_id', '{user}', true)"]
    );
    assert!(asks(&data, "context.set", "my.region"), "{data:#}");
    assert!(asks(&data, "tables", "public.lines? It has no tenant column, and it hangs on"), "{data:#}");
    assert!(
        asks(&data, "tables", "public.drafts? It has no tenant column, and its policies narrow user_id"),
        "{data:#}"
    );
    assert!(file.contains("my.sudo is not set: policies open up for it"), "{file}");
    assert!(file.contains("my.mode is not set: policies open up for it"), "{file}");
}

#[tokio::test]
async fn lists_sessions_and_numbered_users() {
    let built = built(
        "CREATE ROLE @app LOGIN; CREATE ROLE @owner NOLOGIN; GRANT USAGE ON SCHEMA public TO @app, @owner;
         CREATE TABLE public.sessions (token text PRIMARY KEY, tenant_id uuid NOT NULL, valid boolean NOT NULL, revoked boolean NOT NULL);
         CREATE INDEX ON public.sessions (tenant_id);
         CREATE FUNCTION public.tenant() RETURNS uuid STABLE SECURITY DEFINER SET search_path = '' LANGUAGE sql AS
             $$ SELECT tenant_id FROM public.sessions WHERE token = current_setting('app.session', true) AND valid AND NOT revoked $$;
         CREATE TABLE public.notes (tenant_id uuid NOT NULL, n int); CREATE INDEX ON public.notes (tenant_id);
         CREATE TABLE public.files (tenant_id uuid NOT NULL, n int); CREATE INDEX ON public.files (tenant_id);
         ALTER TABLE public.notes OWNER TO @owner; ALTER TABLE public.files OWNER TO @owner;
         ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE public.notes FORCE ROW LEVEL SECURITY;
         ALTER TABLE public.files ENABLE ROW LEVEL SECURITY; ALTER TABLE public.files FORCE ROW LEVEL SECURITY;
         CREATE POLICY p ON public.notes USING (tenant_id = (SELECT public.tenant()));
         CREATE POLICY p ON public.files USING (tenant_id IN (SELECT jsonb_array_elements_text(
             nullif(current_setting('app.claims', true), '')::jsonb -> 'tenants')::uuid));
         GRANT SELECT, INSERT ON public.notes, public.files TO @app",
    )
    .await;
    let (file, data) = guessed(&built);
    let context = &data["contract"]["context"];
    assert_eq!(
        context["set"],
        serde_json::json!([
            r#"SELECT set_config('app.claims', '{"tenants":["{tenant}"]}', true)"#,
            "SELECT set_config('app.session', '{user}', true)"
        ])
    );
    assert_eq!(
        context["prepare"],
        serde_json::json!([
            "INSERT INTO public.sessions (token, tenant_id, valid, revoked) VALUES ('{user}', '{tenant}', true, false)"
        ])
    );
    let report = built.verified_by(&file).await;
    assert!(report.summary.passed && report.findings.is_empty() && report.tables.len() == 3, "{report:#?}");
    // A user whose key is a number cannot be made up.
    built
        .change(
            "CREATE TABLE public.members (user_id bigint NOT NULL, tenant_id uuid NOT NULL);
             ALTER POLICY p ON public.notes USING (tenant_id IN (SELECT tenant_id FROM public.members
                 WHERE user_id = nullif(current_setting('app.user_id', true), '')::bigint))",
        )
        .await;
    let (_, data) = guessed(&built);
    assert!(asks(&data, "context.prepare", "user_id is of type int8, and {user} is a UUID"), "{data:#}");
}

#[tokio::test]
async fn the_file_is_written_whole_and_not_over_another() {
    let built = Built::new(&platforms::RAILS).await;
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("isolation.yaml");
    let path = file.to_str().expect("a path");
    let init = |more: &[&str]| {
        built.database.tenantctl(&[&["rls", "contract", "init", "--output-file", path], more].concat())
    };
    let run = init(&["--dry-run"]).expect(0);
    assert!(run.stderr.contains("would create") && !file.exists(), "{run:?}");
    let json = init(&["-o", "json"]).expect(0).json();
    assert_eq!((&json["outcome"], &json["file"]), (&"created".into(), &path.into()));
    let text = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(text, guessed(&built).0);
    assert_proven(&built.verified_by(&text).await);
    assert_eq!(init(&["-o", "json"]).expect(0).json()["outcome"], "unchanged");
    std::fs::write(&file, "mine").expect("a file");
    assert!(init(&[]).expect(4).stderr.contains("--force"));
    assert!(init(&["--force", "--dry-run"]).expect(0).stderr.contains("would update"));
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "mine");
    init(&["--force"]).expect(0);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), text);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a directory").count(), 1);
    built.database.tenantctl(&["rls", "contract", "init", "--dry-run"]).expect(2);
    let quiet = built.database.tenantctl(&["-q", "rls", "contract", "init"]).expect(0);
    assert_eq!(quiet.stdout, "account_id\n");
}

#[tokio::test]
async fn no_name_gets_out_of_a_comment() {
    let built = built(
        "CREATE ROLE \"@a\nadmin_roles: [x]\" LOGIN; CREATE SCHEMA \"s\n#: [\";
         CREATE TABLE \"s\n#: [\".\"t: {}\n- 'x\" (\"tenant\nid\" text NOT NULL);
         ALTER TABLE \"s\n#: [\".\"t: {}\n- 'x\" ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON \"s\n#: [\".\"t: {}\n- 'x\" USING (\"tenant\nid\" = current_setting('app.t', true));
         GRANT USAGE ON SCHEMA \"s\n#: [\" TO \"@a\nadmin_roles: [x]\";
         GRANT SELECT ON \"s\n#: [\".\"t: {}\n- 'x\" TO \"@a\nadmin_roles: [x]\"",
    )
    .await;
    let (file, data) = guessed(&built);
    let contract = tenancy::rls::Contract::parse(&file, "the guess").expect("a contract");
    assert_eq!(contract.tenant_column, ["tenant\nid"]);
    assert_eq!(contract.schemas, ["s\n#: ["]);
    assert_eq!(serde_json::to_value(&contract).expect("JSON"), data["contract"]);
}
