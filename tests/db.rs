//! The way to the database: migrations, the version guard, roles and rights, and how a database is named.

use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tenancy::db::required_version;

use crate::common::{Database, Run, run, tenantctl};

mod config;
mod rights;

/// What of a database `db migrate` could have changed.
fn traces(db: &Database) -> String {
    db.sql(
        "SELECT coalesce(string_agg(nspname, ' ' ORDER BY nspname), '') || '|' ||
                (SELECT count(*) FROM pg_class) || '|' || (SELECT count(*) FROM pg_proc)
           FROM pg_namespace WHERE nspname !~ '^pg_'",
    )
}

fn prefixed(db: &Database, prefix: &str, arguments: &[&str]) -> Run {
    run(db.command().env("TENANTCTL_ROLE_PREFIX", prefix).args(arguments).args(["-o", "json"]))
}

/// The numbers of the migrations' files, in order; the last one is the version.
fn migrations() -> Vec<i64> {
    let files = std::fs::read_dir(crate::common::root().join("migrations")).unwrap();
    let mut numbers: Vec<i64> =
        files.map(|file| file.unwrap().file_name().to_str().unwrap()[..4].parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers.last(), Some(&required_version()));
    numbers
}

#[tokio::test]
async fn the_control_plane_is_made_once() {
    let db = Database::empty().await;
    let before = traces(&db);
    let dry = db.tenantctl(&["db", "migrate", "--dry-run", "-o", "json"]).expect(0);
    assert!(dry.stderr.starts_with("would apply"), "{dry:?}");
    assert_eq!((&dry.json()["outcome"], &dry.json()["dry_run"]), (&json!("created"), &json!(true)));
    assert_eq!(traces(&db), before, "a dry run leaves an empty database empty");
    assert_eq!(db.json(&["db", "status"])["schema_version"], Value::Null);

    let first = db.json(&["db", "migrate"]);
    assert_eq!(first["outcome"], "created");
    assert_eq!((&first["version"], &first["catalogue_applied"]), (&json!(required_version()), &json!(true)));
    let versions: Vec<_> =
        first["applied"].as_array().unwrap().iter().map(|m| m["version"].as_i64().unwrap()).collect();
    assert_eq!(versions, migrations());
    assert!(first["applied"][0]["duration_ms"].is_u64() && first["applied"][0]["description"].is_string());
    db.tenantctl(&["tenant", "create", "Acme"]).expect(0);

    let (before, dump) = (traces(&db), db.dump());
    let second = db.tenantctl(&["db", "migrate", "-o", "json"]).expect(0);
    assert_eq!((&second.json()["outcome"], &second.json()["applied"]), (&json!("unchanged"), &json!([])));
    assert!(second.stderr.contains("unchanged"), "{second:?}");
    assert_eq!((traces(&db), db.dump()), (before, dump));
    // A catalogue of the operator's own is left alone.
    db.sql("UPDATE tenancy.plan_limits SET limit_value = 7 WHERE plan = 'free' AND metric = 'events'");
    assert_eq!(db.json(&["db", "migrate"])["catalogue_applied"], false);
    assert_eq!(db.json(&["plan", "show", "free"])["limits"][0]["limit"], 7);
}

#[tokio::test]
async fn migrations_of_one_database_at_once_take_turns() {
    let (one, two) = (Database::empty().await, Database::empty().await);
    // Roles that no database of the server has made yet, so that the two databases race for them, too.
    let prefix = format!("{}_race", one.name);
    let children: Vec<Child> = (0..8)
        .map(|n| {
            let mut command = if n % 2 == 0 { one.command() } else { two.command() };
            command.args(["db", "migrate", "-o", "ndjson"]).env("TENANTCTL_ROLE_PREFIX", &prefix);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut outcomes: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            serde_json::from_slice::<Value>(&output.stdout).unwrap()["outcome"].to_string()
        })
        .collect();
    outcomes.sort();
    assert_eq!(outcomes, [vec!["\"created\""; 2], vec!["\"unchanged\""; 6]].concat());
    for db in [&one, &two] {
        assert_eq!(db.sql("SELECT count(*) FROM tenancy._sqlx_migrations"), migrations().len().to_string());
        assert_eq!(db.sql("SELECT count(*) FROM tenancy.plans"), "4");
    }
}

#[tokio::test]
async fn a_schema_of_another_version_is_not_touched() {
    let missing = Database::empty().await;
    for arguments in [&["tenant", "list"][..], &["tenant", "create", "Acme"], &["usage", "stats", "acme"]] {
        let error = missing.refused(9, arguments);
        assert_eq!(
            (&error["code"], &error["hint"]),
            (&json!("schema_version"), &json!("run `tenantctl db migrate`"))
        );
    }
    // Whether or not the roles of its name exist on the server.
    prefixed(&missing, "nobody_at_all", &["tenant", "list"]).expect(9);

    let newer = Database::with_acme("free").await;
    newer.sql("INSERT INTO tenancy._sqlx_migrations VALUES (9999, 'of tomorrow', now(), true, '', 0)");
    let before = newer.dump();
    assert_eq!(newer.refused(9, &["tenant", "create", "Beta"])["hint"], "use a newer tenantctl");
    let error = newer.refused(9, &["db", "migrate"]);
    assert!(error["message"].as_str().unwrap().contains("9999"), "{error}");
    assert_eq!(newer.json(&["db", "status"])["schema_version"], 9999);
    assert_eq!(newer.dump(), before);

    let older = Database::migrated().await;
    older.sql("DELETE FROM tenancy._sqlx_migrations WHERE version = (SELECT max(version) FROM tenancy._sqlx_migrations)");
    let error = older.refused(9, &["tenant", "create", "Acme"]);
    assert_eq!(error["hint"], "run `tenantctl db migrate`");
    assert!(error["message"].as_str().unwrap().contains(&format!("needs {}", required_version())), "{error}");
    assert_eq!(older.sql("SELECT count(*) FROM tenancy.tenants"), "0");

    let changed = Database::migrated().await;
    changed.sql("UPDATE tenancy._sqlx_migrations SET checksum = 'x' WHERE version = 2");
    let error = changed.refused(9, &["db", "migrate"]);
    assert_eq!(error["message"], "migration 2 in the database differs from this program's");
}

#[tokio::test]
async fn the_status_says_where_and_what() {
    let db = Database::migrated().await;
    let status = db.json(&["db", "status"]);
    for (field, value) in [
        ("kind", json!("server")),
        ("source", json!("environment (TENANTCTL_URL)")),
        ("running", json!(true)),
        ("database", json!(db.name)),
        ("user", json!("postgres")),
        ("schema_version", json!(required_version())),
        ("required_schema_version", json!(required_version())),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    assert_eq!(status["server_version"], db.sql("SHOW server_version"));
    let empty = Database::empty().await;
    assert!(empty.tenantctl(&["db", "status"]).expect(0).stdout.contains("tenantctl db migrate"));

    // A server that is not there: the data says so, and so does the exit code.
    let mut command = tenantctl();
    command.args(["db", "status", "-o", "json", "--url", "postgres:///x?host=/nonexistent"]);
    let gone = run(&mut command).expect(7);
    assert_eq!((&gone.json()["running"], &gone.json()["source"]), (&json!(false), &json!("flag")));
    assert_eq!(gone.error()["code"], "unreachable");
}

#[tokio::test]
async fn a_lock_that_somebody_holds_is_waited_for_no_longer_than_was_said() {
    let db = Database::with_acme("free").await;
    let mut session = db.session().await;
    let mut holding = session.begin_as_owner().await.unwrap();
    sqlx::query("SELECT FROM tenancy.tenants FOR UPDATE").execute(&mut *holding).await.unwrap();
    let run = db.tenantctl(&["tenant", "suspend", "acme", "--lock-timeout", "50ms"]).expect(4);
    assert!(run.stderr.contains("hint: somebody else was changing the same objects: try again"), "{run:?}");
    holding.rollback().await.unwrap();
    db.tenantctl(&["tenant", "suspend", "acme", "--lock-timeout", "50ms"]).expect(0);
    for flag in ["--lock-timeout=x", "--statement-timeout=-1s"] {
        db.refused(2, &["tenant", "list", flag]);
    }
}
