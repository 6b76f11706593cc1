//! How a database is named, where settings come from, and that no password gets out.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Database, Run, run, tenantctl};

const PASSWORD: &str = "s3cr3t-hunter2";

/// Runs `tenantctl` in a directory, with variables.
fn within(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
    run(tenantctl().current_dir(directory).envs(variables.iter().copied()).args(arguments))
}

fn project(yaml: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("tenantctl.yaml"), yaml).unwrap();
    directory
}

/// The directory and port of the server's socket.
fn socket(db: &Database) -> (String, String) {
    (db.sql("SHOW unix_socket_directories"), db.sql("SHOW port"))
}

#[test]
fn without_a_database_the_error_says_how_to_name_one() {
    let nowhere = run(tenantctl().args(["tenant", "list"])).expect(7);
    assert!(nowhere.stderr.starts_with("error: no database configured\nhint: "), "{nowhere:?}");
    for way in ["--url", "TENANTCTL_URL", "DATABASE_URL", "--profile", "PGHOST", "--embedded"] {
        assert!(nowhere.stderr.contains(way), "{way}");
    }
    let error = run(tenantctl().args(["db", "migrate", "-o", "json"])).expect(7).error();
    assert_eq!(error["code"], "unreachable");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_unreachable() {
    let db = Database::empty().await;
    let reach = |url: &str| run(tenantctl().args(["tenant", "list", "-o", "json", "--url", url]));
    for url in ["postgres:///x?host=/nonexistent", "postgres://u:p@127.0.0.1:1/x?sslmode=disable"] {
        let error = reach(url).expect(7).error();
        assert_eq!((&error["code"], error["hint"].is_string()), (&json!("unreachable"), true), "{error}");
        assert!(error["message"].as_str().unwrap().contains("cannot connect to PostgreSQL at"), "{error}");
    }
    reach(&db.url().replace(&db.name, "no_such_database")).expect(7);
    db.sql(&format!("CREATE ROLE {}_wrong LOGIN PASSWORD 'right'", db.name));
    let login = db.url().replace("user=postgres", &format!("user={}_wrong&password=wrong", db.name));
    assert!(reach(&login).expect(7).error()["hint"].as_str().unwrap().contains("password"));
    for url in ["mysql://h/db", "postgres://h:port/db", "h"] {
        assert_eq!(reach(url).expect(2).error()["code"], "invalid", "{url}");
    }
}

#[tokio::test]
async fn a_database_is_named_in_every_way_there_is() {
    let db = Database::with_acme("free").await;
    let (host, port) = socket(&db);
    let url = db.url();
    let empty = TempDir::new().unwrap();
    let file = project(&format!("url: {url}\n"));
    let profiles = project(&format!(
        "profile: here\nprofiles:\n  here: {{url: '{url}'}}\n  gone: {{url: 'postgres:///x?host=/nonexistent'}}\n"
    ));
    let below = profiles.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    let libpq =
        [("PGHOST", host.as_str()), ("PGPORT", &port), ("PGUSER", "postgres"), ("PGDATABASE", &db.name)];
    let gone = ("DATABASE_URL", "postgres:///x?host=/nonexistent");
    let config = profiles.path().join("tenantctl.yaml").display().to_string();
    type Way<'a> = (&'a Path, &'a [(&'a str, &'a str)], &'a [&'a str], String);
    let ways: [Way<'_>; 8] = [
        (empty.path(), &[], &["--url", &url], "flag".into()),
        (empty.path(), &[("TENANTCTL_URL", &url), gone], &[], "environment (TENANTCTL_URL)".into()),
        (empty.path(), &[("DATABASE_URL", &url)], &[], "environment (DATABASE_URL)".into()),
        (empty.path(), &libpq, &[], "environment (PGHOST)".into()),
        (file.path(), &[], &[], format!("{}/tenantctl.yaml", file.path().display())),
        (&below, &[gone], &[], config.clone()),
        (empty.path(), &[gone], &["--config", &config, "--profile", "here"], "flag".into()),
        (&below, &[("TENANTCTL_PROFILE", "here")], &[], "environment (TENANTCTL_PROFILE)".into()),
    ];
    for (directory, variables, arguments, source) in ways {
        let listed = within(directory, variables, &[&["tenant", "list", "-q"], arguments].concat()).expect(0);
        assert_eq!(listed.stdout, "acme\n", "{source}");
        let status = within(directory, variables, &[&["db", "status", "-o", "json"], arguments].concat());
        assert_eq!(status.expect(0).json()["source"], source);
    }
    within(&below, &[], &["tenant", "list", "--profile", "gone"]).expect(7);
    let unknown = within(&below, &[], &["tenant", "list", "--profile", "hree"]).expect(2);
    assert!(unknown.stderr.contains("did you mean \"here\""), "{unknown:?}");
    within(&below, &[], &["tenant", "list", "--profile", "here", "--url", &url]).expect(2);
    within(&below, &[], &["tenant", "list", "--config", "/nonexistent"]).expect(2);
}

#[tokio::test]
async fn the_password_file_works_and_only_while_it_is_private() {
    let db = Database::with_acme("free").await;
    let login = format!("{}_filed", db.name);
    db.sql(&format!("CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' IN ROLE tenancy_owner"));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pgpass");
    fs::write(&file, format!("# mine\n*:*:other:{login}:wrong\n*:*:*:{login}:{PASSWORD}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let url = db.url().replace("user=postgres", &format!("user={login}"));
    let list = |variables: &[(&str, &str)]| {
        within(
            directory.path(),
            &[variables, &[("TENANTCTL_URL", url.as_str())]].concat(),
            &["tenant", "list", "-q"],
        )
    };
    let file = file.display().to_string();
    assert_eq!(list(&[("PGPASSFILE", &file)]).expect(0).stdout, "acme\n");
    assert_eq!(list(&[("PGPASSWORD", PASSWORD)]).expect(0).stdout, "acme\n");
    list(&[]).expect(7);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let open = list(&[("PGPASSFILE", &file)]).expect(7);
    assert!(!open.stderr.contains(PASSWORD), "{open:?}");
}

#[tokio::test]
async fn a_password_is_never_shown() {
    let db = Database::with_acme("free").await;
    let login = format!("{}_secret", db.name);
    db.sql(&format!("CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' IN ROLE tenancy_owner"));
    let right = db.url().replace("user=postgres", &format!("user={login}&password={PASSWORD}"));
    let directory = project(&format!("profiles:\n  prod: {{url: '{right}'}}\n"));
    let verbs = [
        &["tenant", "list"][..],
        &["tenant", "show", "nobody"],
        &["db", "status"],
        &["db", "migrate"],
        &["config", "show"],
        &["config", "path"],
    ];
    let unreachable = format!("postgres://u:{PASSWORD}@127.0.0.1:1/x?sslmode=disable");
    let wrong = db.url().replace("user=postgres", &format!("user={login}&password={PASSWORD}-wrong"));
    let malformed = [
        format!("postgres://u:{PASSWORD}@host:port/db"),
        format!("mysql://u:{PASSWORD}@host/db"),
        format!("postgres://u:{PASSWORD}@[host/db"),
        format!("postgres://u:{PASSWORD}@host/db?sslmode=odd"),
        PASSWORD.to_owned(),
    ];
    let try_all = |url: &String, verbs: &[&[&str]]| {
        for verb in verbs {
            for format in ["table", "json"] {
                let by_flag = [verb, &["-vv", "-o", format, "--url", url][..]].concat();
                silent(&within(directory.path(), &[], &by_flag));
            }
            silent(&within(directory.path(), &[("DATABASE_URL", url)], &[verb, &["-vv"][..]].concat()));
        }
    };
    for url in [&right, &unreachable, &wrong] {
        try_all(url, &verbs);
    }
    // These fail in the same place, whatever the verb.
    for url in &malformed {
        try_all(url, &verbs[2..3]);
    }
    for verb in verbs {
        silent(&within(directory.path(), &[], &[verb, &["-vv", "--profile", "prod"]].concat()));
    }
    // Nor where the file that holds it cannot be read.
    for yaml in [
        format!("profiles:\n  prod: {{url: ['{right}']}}\n"),
        format!("profiles: ['{right}']\n"),
        format!("url: '{right}\n"),
        format!("'{right}': x\n"),
        format!("urls: '{right}'\n"),
        format!("grace_days: '{right}'\n"),
    ] {
        silent(&within(project(&yaml).path(), &[], &["config", "show"]).expect(2));
    }
    let mut clash = tenantctl();
    silent(&run(clash.args(["tenant", "list", "--embedded", "--url", &right])).expect(2));
}

#[track_caller]
fn silent(run: &Run) {
    assert!(!run.stdout.contains(PASSWORD) && !run.stderr.contains(PASSWORD), "{run:?}");
}

#[test]
fn every_setting_says_where_it_comes_from() {
    let directory = project("lock_timeout: 3s\ngrace_days: 14\ndb_pool_size: 5\n");
    let variables = [("DB_POOL_SIZE", "7"), ("ENABLE_TENANT_ISOLATION", "false")];
    let shown = within(
        directory.path(),
        &variables,
        &["config", "show", "-o", "json", "--statement-timeout", "1min", "--url", "postgres://u@h/d"],
    );
    let shown = shown.expect(0).json();
    let file = directory.path().join("tenantctl.yaml").display().to_string();
    let found = |key: &str| -> (Value, Value) {
        let row = shown.as_array().unwrap().iter().find(|row| row["key"] == key).unwrap();
        (row["value"].clone(), row["source"].clone())
    };
    for (key, value, source) in [
        ("database", "url", "flag"),
        ("statement_timeout", "1m", "flag"),
        ("db_pool_size", "7", "environment (DB_POOL_SIZE)"),
        ("enable_tenant_isolation", "false", "environment (ENABLE_TENANT_ISOLATION)"),
        ("lock_timeout", "3s", file.as_str()),
        ("grace_days", "14", &file),
        ("role_prefix", "tenancy", "default"),
        ("system_admin_bypass", "false", "default"),
        ("db_max_overflow", "30", "default"),
        ("db_pool_recycle", "3600", "default"),
    ] {
        assert_eq!(found(key), (json!(value), json!(source)), "{key}");
    }
    let path = within(directory.path(), &[], &["config", "path"]).expect(0);
    assert_eq!(path.stdout, format!("{file}\n"));
    let none = within(TempDir::new().unwrap().path(), &[], &["config", "path"]).expect(0);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "no configuration file is in use\n"));
}

#[test]
fn a_mistake_in_the_configuration_is_named() {
    for (yaml, named) in [
        ("pool_szie: 3\n", "pool_szie"),
        ("profiles: {prod: {ulr: x}}\n", "ulr"),
        ("db_pool_size: many\n", "db_pool_size"),
        ("- a\n", "tenantctl.yaml"),
        ("lock_timeout: soon\n", "soon"),
        ("role_prefix: Tenancy\n", "role_prefix"),
        ("role_prefix: ''\n", "role_prefix"),
    ] {
        let wrong = within(project(yaml).path(), &[], &["config", "show", "-o", "json"]).expect(2);
        assert_eq!(wrong.error()["code"], "invalid");
        assert!(wrong.stderr.contains(named) && wrong.stderr.contains("tenantctl.yaml"), "{yaml}: {wrong:?}");
    }
    for (name, value) in
        [("DB_POOL_SIZE", "many"), ("TENANTCTL_GRACE_DAYS", "-1"), ("SYSTEM_ADMIN_BYPASS", "maybe")]
    {
        let wrong = within(&std::env::temp_dir(), &[(name, value)], &["config", "show"]).expect(2);
        assert!(wrong.stderr.contains(name), "{wrong:?}");
    }
    let too_long = "p".repeat(56);
    for prefix in ["9lives", "we\"ird", "a-b", "é", "pg_x", &too_long] {
        let variables = [("TENANTCTL_ROLE_PREFIX", prefix)];
        let wrong = within(&std::env::temp_dir(), &variables, &["config", "show"]).expect(2);
        assert!(wrong.stderr.contains("role_prefix, from environment (TENANTCTL_ROLE_PREFIX)"), "{wrong:?}");
    }
    let variables = [("TENANTCTL_ROLE_PREFIX", &too_long[1..])];
    within(&std::env::temp_dir(), &variables, &["config", "show"]).expect(0);
    within(project("").path(), &[], &["config", "show"]).expect(0);
}
