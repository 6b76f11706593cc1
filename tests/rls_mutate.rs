//! `rls verify --mutate`: every weakening of what `rls setup` made that lets something through is noticed, blind spots
//! are told, and nothing of it stays.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::common::Database;

const SCHEMA: &str = r#"
CREATE SCHEMA "S p";
CREATE TABLE "S p"."We""ird é" (
    "Id"      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    title     text NOT NULL,
    "Is open" boolean NOT NULL DEFAULT false
);
GRANT USAGE ON SCHEMA "S p" TO tenancy_app;
"#;
const TABLE: &str = r#""S p"."We""ird é""#;

/// Policies, flags, owners, grants and roles.
const STATE: &str = r#"
SELECT p::text FROM pg_policy p
UNION ALL SELECT concat(relname, relrowsecurity, relforcerowsecurity, relowner, relacl) FROM pg_class WHERE relnamespace = '"S p"'::regnamespace
UNION ALL SELECT concat(rolname, rolsuper, rolbypassrls) FROM pg_roles WHERE rolname LIKE 'tenancy%'
UNION ALL SELECT concat(roleid::regrole, member::regrole) FROM pg_auth_members WHERE member = 'tenancy_app'::regrole
UNION ALL SELECT t::text FROM "S p"."We""ird é" t
ORDER BY 1"#;

async fn planted() -> Database {
    let db = Database::migrated().await;
    db.sql(SCHEMA);
    db.tenantctl(&["rls", "setup"]).expect(0);
    db
}

fn mutants(report: &Value, verdict: &str) -> Vec<(String, String)> {
    let text = |mutant: &Value, key: &str| mutant[key].as_str().expect("a text").to_owned();
    let mutants = report["mutants"].as_array().expect("mutants").iter();
    let chosen = mutants.filter(|mutant| mutant["verdict"] == verdict);
    chosen.map(|mutant| (text(mutant, "mutation"), text(mutant, "object"))).collect()
}

fn names(mutants: &[(String, String)], of: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    mutants.iter().filter(|(_, object)| of(object)).map(|(name, _)| name.as_str()).collect()
}

/// The checks that found the weakening, wherever it let something through.
fn finders(report: &Value, mutation: &str) -> BTreeSet<String> {
    let mutants = report["mutants"].as_array().expect("mutants").iter();
    let found = mutants
        .filter(|mutant| mutant["mutation"] == mutation)
        .flat_map(|mutant| mutant["found_by"].as_array().expect("checks").iter().filter_map(Value::as_str));
    found.map(String::from).collect()
}

/// The weakenings of the role that let something through: since PostgreSQL 16 CREATEROLE gives no role that it has not
/// made itself.
fn of_role(report: &Value) -> BTreeSet<&'static str> {
    let version = report["server_version"].as_str().expect("a version");
    let createrole = version.starts_with("15").then_some("createrole");
    ["bypassrls", "superuser", "grant-role"].into_iter().chain(createrole).collect()
}

#[tokio::test]
async fn every_weakening_of_what_setup_made_is_noticed() {
    let db = planted().await;
    let state = db.sql(STATE);
    let report = db.json(&["rls", "verify", "--mutate"]);
    assert_eq!(db.sql(STATE), state);

    assert_eq!(report["summary"]["passed"], true, "{report:#}");
    assert!(mutants(&report, "survived").is_empty() && mutants(&report, "untried").is_empty(), "{report:#}");
    let killed = mutants(&report, "killed");
    let floor = names(&killed, |object| object.ends_with(", under a permissive true"));
    for name in
        ["drop", "true", "or-true", "check-true", "permissive", "only-select", "only-insert", "other-role"]
    {
        assert!(floor.contains(name), "{name}: {floor:?}");
    }
    let isolation = names(&killed, |object| object.ends_with(", without a restrictive one"));
    for name in [
        "true",
        "coalesce",
        "empty-context",
        "unset-context",
        "spoof",
        "role-branch",
        "flag-branch",
        "literal-tenant",
        "helper-immutable",
        "helper-replaceable",
    ] {
        assert!(isolation.contains(name), "{name}: {isolation:?}");
    }
    for (name, check) in [
        ("literal-tenant", "literal-tenant"),
        ("flag-branch", "row-flag-branch"),
        ("helper-immutable", "helper-immutable"),
        ("helper-replaceable", "helper-replaceable"),
        ("grant-trigger", "grant-trigger"),
    ] {
        assert!(finders(&report, name).contains(check), "{name}: {:?}", finders(&report, name));
    }
    let table = names(&killed, |object| object == format!("table {TABLE}"));
    let expected = [
        "disable-rls",
        "owner-app",
        "owner-app-no-force",
        "grant-truncate",
        "grant-all",
        "grant-public",
        "grant-trigger",
        "definer-view",
        "definer-function",
    ];
    assert_eq!(table, expected.into());
    let role = names(&killed, |object| object.starts_with("role "));
    assert_eq!(role, of_role(&report));

    // One policy alone holds what the other lets through; that nothing gets through is no miss.
    let equivalent = mutants(&report, "equivalent");
    let alone = names(&equivalent, |object| object == format!("policy \"tenant_isolation\" on {TABLE}"));
    assert!(alone.contains("true") && alone.contains("drop"), "{alone:?}");
    assert!(names(&equivalent, |object| object == format!("table {TABLE}")).contains("invoker-view"));
}

#[tokio::test]
async fn a_blind_spot_is_told() {
    let db = planted().await;
    db.sql("CREATE TABLE \"S p\".plain (tenant_id uuid NOT NULL, id uuid PRIMARY KEY)");
    let narrow = ["--check", "grant-truncate", "--check", "rls-disabled", "--no-probes"];
    let arguments = ["rls", "verify", "--mutate", "--table", TABLE, "-o", "json"];
    let run = db.tenantctl(&[arguments.as_slice(), &narrow].concat()).expect(5);
    let report: Value = run.json();
    assert_eq!(report["summary"]["passed"], false);
    assert_eq!(report["tables"].as_array().map(Vec::len), Some(1));
    let killed = mutants(&report, "killed");
    assert_eq!(
        names(&killed, |_| true),
        ["disable-rls", "grant-truncate", "grant-all", "grant-public"].into(),
        "{report:#}"
    );
    let survived = mutants(&report, "survived");
    let of_role = names(&survived, |object| object.starts_with("role "));
    assert_eq!(of_role, self::of_role(&report));
    let survivor = &report["mutants"][0];
    assert_eq!(survivor["verdict"], "survived", "survivors come first");
    let through = survivor["let_through"].as_object().expect("what got through");
    assert!(through.values().all(|statement| statement.as_str().is_some_and(|text| !text.is_empty())));

    assert!(run.stderr.contains(&format!("{} not found", survived.len())), "{run:?}");
}

#[tokio::test]
async fn it_is_refused_where_it_would_hurt_or_prove_nothing() {
    let db = planted().await;
    let login = db.app_login();
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("tenantctl.yaml");
    std::fs::write(&config, format!("profiles: {{prod: {{url: '{}', protected: true}}}}", db.url()))
        .expect("a file");
    let config = config.display().to_string();
    let error = db.refused(10, &["--config", &config, "--profile", "prod", "rls", "verify", "--mutate"]);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("protected")), "{error}");
    let options = tenancy::rls::Options { app_roles: vec!["tenancy_app".into()], ..Default::default() };
    let connect = db.options.clone().options([("role", login.as_str())]);
    let refused = tenancy::rls::mutate::mutate(&connect, &options, tenancy::rls::mutate::Extent::All).await;
    assert_eq!(refused.expect_err("no superuser").kind(), tenancy::ErrorKind::Refused);
}
