//! The sealed context: who can say which tenant a transaction serves.

use std::os::unix::fs::PermissionsExt;

use sqlx::ConnectOptions;
use tenancy::context::Signer;
use tenancy::db::Session;
use tenancy::rls::{Options, Severity};
use time::{Duration, OffsetDateTime};

use crate::common::{self, Database};

/// A platform with two tenants, three rows of each, and a login of the application's.
struct Platform {
    db: Database,
    login: String,
    acme: String,
    beta: String,
}

async fn platform() -> Platform {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["tenant", "create", "Beta", "--plan", "free"]).expect(0);
    db.sql(
        "CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, tenant_id uuid NOT NULL, name text);
         INSERT INTO events (tenant_id, name) SELECT t.id, t.slug FROM tenancy.tenants t, generate_series(1, 3);
         CREATE TABLE notes (id bigint, tenant_id text NOT NULL);
         INSERT INTO notes SELECT 1, id::text FROM tenancy.tenants;
         CREATE TABLE numbers (tenant_id bigint NOT NULL); INSERT INTO numbers VALUES (7), (8)",
    );
    db.tenantctl(&["rls", "setup"]).expect(0);
    let id = |slug: &str| db.sql(&format!("SELECT id FROM tenancy.tenants WHERE slug = '{slug}'"));
    Platform { login: db.app_login(), acme: id("acme"), beta: id("beta"), db }
}

async fn sealed() -> Platform {
    let platform = platform().await;
    platform.db.tenantctl(&["rls", "setup", "--context", "sealed"]).expect(0);
    platform
}

impl Platform {
    /// Whose rows the application sees in a context, without an error.
    #[track_caller]
    fn sees(&self, context: &str) -> String {
        let query = "SELECT concat_ws(' ', name, count(*)) FROM events GROUP BY name";
        let run = self.db.psql_as(&self.login, Some(context), query);
        run.expect(0).stdout.trim_end().to_owned()
    }

    /// What the application is refused.
    #[track_caller]
    fn refused(&self, sql: &str) {
        let run = self.db.psql_as(&self.login, None, sql);
        assert!(run.code != 0 && run.stderr.contains("ERROR:  42501"), "{sql}: {run:?}");
    }

    fn signed(&self, tenant: &str) -> String {
        self.db.sql(&format!("SELECT tenancy.sign_context('{tenant}')"))
    }

    fn signer(&self) -> Signer {
        self.db.sql("SELECT tenancy.signing_key()").parse().expect("a key")
    }

    fn mode(&self) -> String {
        self.db.sql("SELECT tenancy.context_mode()")
    }

    /// No key is in the text.
    #[track_caller]
    fn hides(&self, text: &str) {
        let keys = self.db.sql("SELECT encode(key, 'hex') FROM tenancy.context_keys");
        assert!(!keys.is_empty() && keys.lines().all(|key| !text.contains(key)), "{text}");
    }
}

#[tokio::test]
async fn only_a_signed_tenant_is_taken() {
    let platform = sealed().await;
    let (acme, beta) = (platform.acme.as_str(), platform.beta.as_str());
    let token = platform.signed(acme);
    assert_eq!(platform.sees(&token), "acme 3");
    let signer = platform.signer();
    let now = OffsetDateTime::now_utc();
    let expired = signer.sign_until(acme, now - Duration::seconds(1));
    let swapped = token.replace(acme, beta);
    let longer = token.replacen(&token[26..36], "9999999999", 1);
    let forged = |at: usize| {
        let digit = if &token[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &token[..at], &token[at + 1..])
    };
    let upper = token.to_uppercase();
    for context in [
        acme,
        beta,
        "",
        "garbage",
        "' || '",
        "sealed-1.",
        &format!("sealed-1..{acme}"),
        &format!("sealed-1.{}.9999999999.{}.{acme}", &token[9..25], "0".repeat(64)),
        &format!("sealed-1.{}.99999999é9.{}.{acme}", &token[9..25], "g".repeat(64)),
        &token[..102],
        &token[1..],
        &token[..token.len() - 1],
        &format!("{token} "),
        &upper,
        &swapped,
        &longer,
        &expired,
        // Another key's id, another MAC from its first to its last digit, other separators.
        &forged(9),
        &forged(37),
        &forged(100),
        &forged(36),
        &forged(101),
        &forged(0),
        &signer.sign(""),
    ] {
        assert_eq!(platform.sees(&context.replace('\'', "''")), "", "{context}");
    }
    // Columns of other types take tokens of their own tenants.
    let counts = |context: &str, table: &str| {
        platform.db.psql_as(&platform.login, Some(context), &format!("SELECT count(*) FROM {table}"))
    };
    assert_eq!(counts(&platform.signed("7"), "numbers").expect(0).stdout.trim(), "1");
    assert_eq!(counts("7", "numbers").expect(0).stdout.trim(), "0");
    assert_eq!(counts(&token, "notes").expect(0).stdout.trim(), "1");
    assert_eq!(counts(acme, "notes").expect(0).stdout.trim(), "0");
    // An index serves, and the token is looked at once for each policy, not for each row.
    let explain = "SET LOCAL enable_seqscan = off; EXPLAIN SELECT * FROM events";
    let plan = platform.db.psql_as(&platform.login, Some(&token), explain).expect(0).stdout;
    assert!(plan.contains("Index Cond: (tenant_id = ") && plan.contains("InitPlan"), "{plan}");
}

#[tokio::test]
async fn what_injected_sql_cannot_do() {
    let platform = sealed().await;
    let acme = &platform.acme;
    for sql in [
        "SELECT * FROM tenancy.context_keys",
        "SELECT key FROM tenancy.context_keys",
        "COPY tenancy.context_keys TO STDOUT",
        "INSERT INTO tenancy.context_keys SELECT * FROM tenancy.context_keys",
        "UPDATE tenancy.context_keys SET expires_at = 'infinity'",
        "DELETE FROM tenancy.context_keys",
        &format!("SELECT tenancy.sign_context('{acme}')"),
        &format!("SELECT tenancy.context_value('{acme}')"),
        "SELECT tenancy.signing_key()",
        "SELECT tenancy.rotate_context_key('0')",
        "SELECT tenancy.set_context_mode('plain')",
        "SELECT tenancy.define_context('plain')",
        "SELECT tenancy.change_context('plain')",
        "SELECT tenancy.context_token('\\x00', '\\x00', '', '')",
        "CREATE OR REPLACE FUNCTION tenancy.current_tenant_id() RETURNS uuid LANGUAGE sql RETURN NULL",
        "CREATE OR REPLACE FUNCTION tenancy.unseal(token text) RETURNS text LANGUAGE sql RETURN token",
        "DROP FUNCTION tenancy.unseal(text) CASCADE",
        "SET LOCAL ROLE tenancy_owner",
    ] {
        platform.refused(sql);
    }
    // Rights that somebody gives away on the whole schema still show no key.
    platform.db.sql("GRANT SELECT ON ALL TABLES IN SCHEMA tenancy TO tenancy_app");
    let run = platform.db.psql_as(&platform.login, None, "SELECT count(*) FROM tenancy.context_keys");
    assert_eq!(run.expect(0).stdout.trim(), "0");
    platform.db.sql("REVOKE SELECT ON tenancy.context_keys FROM tenancy_app");
    assert_eq!(platform.mode(), "sealed");
}

#[tokio::test]
async fn the_library_and_the_database_sign_alike() {
    let platform = sealed().await;
    let signer = platform.signer();
    for tenant in [platform.acme.as_str(), "7", "ünïcode.with.dots", "a b"] {
        let token = platform.signed(tenant);
        let expiry: i64 = token[26..36].parse().expect("a time");
        let expiry = OffsetDateTime::from_unix_timestamp(expiry).expect("a time");
        assert_eq!(signer.sign_until(tenant, expiry), token);
    }
    // A key signs for one database only: a copy under another name takes none of its tokens.
    let copy = format!("{}_copy", platform.db.name);
    let token = signer.sign(&platform.acme);
    assert_eq!(platform.sees(&token), "acme 3");
    let url = platform.db.url();
    let maintenance = url.replace(&format!("/{}?", platform.db.name), "/postgres?");
    let psql = |url: &str, sql: &str| {
        let mut command = std::process::Command::new("psql");
        command.args(["--no-psqlrc", "-qAt", "--set=ON_ERROR_STOP=1", "--dbname", url, "--command", sql]);
        common::run(&mut command).expect(0).stdout.trim_end().to_owned()
    };
    psql(&maintenance, &format!("CREATE DATABASE {copy} TEMPLATE {}", platform.db.name));
    let there = url.replace(&format!("/{}?", platform.db.name), &format!("/{copy}?"));
    let enter = |token: &str| {
        psql(
            &there,
            &format!(
                "BEGIN; SET LOCAL ROLE tenancy_app; SET LOCAL app.current_tenant_id = '{token}';
                 SELECT count(*) FROM events; COMMIT"
            ),
        )
    };
    assert_eq!(enter(&token), "0");
    assert_eq!(psql(&there, "SELECT tenancy.signing_key() IS NULL"), "t");
    psql(&there, "SELECT tenancy.rotate_context_key()");
    assert_eq!(enter(&token), "0");
    let theirs = psql(&there, &format!("SELECT tenancy.sign_context('{}')", platform.acme));
    assert_eq!((enter(&theirs), platform.sees(&theirs)), ("3".into(), String::new()));
}

#[tokio::test]
async fn keys_rotate() {
    let platform = sealed().await;
    let token = platform.signed(&platform.acme);
    let first = platform.db.json(&["rls", "context", "show"]);
    assert_eq!(
        (&first["mode"], &first["keys"][0]["expires_at"]),
        (&"sealed".into(), &serde_json::Value::Null)
    );

    let before = platform.db.dump();
    platform.db.tenantctl(&["rls", "context", "rotate", "--dry-run"]).expect(0);
    assert_eq!(platform.db.dump(), before);

    // The old key is good for a while, and signs no more.
    let run = platform.db.tenantctl(&["rls", "context", "rotate", "--grace", "10min"]).expect(0);
    platform.hides(&format!("{run:?}"));
    let fresh = platform.signed(&platform.acme);
    assert_ne!(fresh[..26], token[..26]);
    assert_eq!((platform.sees(&token), platform.sees(&fresh)), ("acme 3".into(), "acme 3".into()));
    let keys = platform.db.json(&["rls", "context", "show"])["keys"].clone();
    assert_eq!(keys.as_array().map(Vec::len), Some(2));
    assert_eq!(keys[0]["id"], fresh[9..25]);
    assert!(keys[1]["id"] == token[9..25] && keys[1]["expires_at"].is_string(), "{keys}");

    // Its time is over: refused, and gone with the next rotation.
    platform.db.sql("UPDATE tenancy.context_keys SET expires_at = now() WHERE expires_at <> 'infinity'");
    assert_eq!((platform.sees(&token), platform.sees(&fresh)), (String::new(), "acme 3".into()));
    platform.db.tenantctl(&["rls", "context", "rotate", "--grace", "0s"]).expect(0);
    assert_eq!((platform.sees(&token), platform.sees(&fresh)), (String::new(), String::new()));
    assert_eq!(platform.db.sql("SELECT count(*) FROM tenancy.context_keys"), "1");
    platform.db.tenantctl(&["rls", "context", "rotate", "--grace", "-1h"]).expect(2);
    let run = platform.db.psql(&["--command", "SELECT tenancy.rotate_context_key('-1 hour')"]);
    assert!(run.code != 0 && run.stderr.contains("-01:00:00"), "{run:?}");
    assert_eq!(platform.sees(&platform.signed(&platform.beta)), "beta 3");
}

#[tokio::test]
async fn the_mode_is_kept_and_undone() {
    let platform = platform().await;
    let db = &platform.db;
    assert_eq!(platform.mode(), "plain");
    assert_eq!(db.refused(10, &["rls", "context", "key", "--out", "-"])["code"], "refused");

    // Services may sign before it is sealed.
    db.tenantctl(&["rls", "context", "rotate"]).expect(0);
    let token = platform.signed(&platform.acme);
    assert_eq!((platform.sees(&token), platform.sees(&platform.acme)), ("acme 3".into(), "acme 3".into()));

    let before = db.dump();
    for how in ["--dry-run", "--print"] {
        let run = db.tenantctl(&["rls", "setup", "--context", "sealed", how, "-o", "json"]).expect(0);
        assert!(run.stdout.contains("SELECT tenancy.set_context_mode('sealed')"), "{run:?}");
        platform.hides(&format!("{run:?}"));
        assert_eq!((db.dump(), platform.mode().as_str()), (before.clone(), "plain"));
    }
    let run = db.tenantctl(&["rls", "setup", "--context", "sealed"]).expect(0);
    platform.hides(&format!("{run:?}"));
    assert_eq!((platform.sees(&token), platform.sees(&platform.acme)), ("acme 3".into(), String::new()));

    // Again, or without a word about it, nothing changes; a key that is in use is not replaced.
    let before = db.dump();
    for arguments in [&["rls", "setup", "--context", "sealed"][..], &["rls", "setup"]] {
        let run = db.tenantctl(arguments).expect(0);
        assert!(run.stderr.contains("(unchanged)"), "{run:?}");
        assert_eq!((db.dump(), platform.mode().as_str()), (before.clone(), "sealed"));
    }
    db.tenantctl(&["rls", "setup", "--context", "plain"]).expect(0);
    assert_eq!((platform.sees(&token), platform.sees(&platform.beta)), ("acme 3".into(), "beta 3".into()));
    db.tenantctl(&["rls", "setup", "--context", "sealed"]).expect(0);

    db.tenantctl(&["rls", "teardown", "--yes", "--table", "events"]).expect(0);
    assert_eq!(platform.mode(), "sealed");
    let printed = db.tenantctl(&["rls", "teardown", "--print"]).expect(0);
    assert!(printed.stdout.contains("SELECT tenancy.set_context_mode('plain');"), "{printed:?}");
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_eq!(platform.mode(), "plain");
    db.tenantctl(&["rls", "setup", "--context", "open"]).expect(2);
}

#[tokio::test]
async fn a_key_goes_to_a_file_of_its_own() {
    let platform = sealed().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    let name = file.display().to_string();
    let key = platform.db.sql("SELECT tenancy.signing_key()");
    let dry = platform.db.tenantctl(&["rls", "context", "key", "--out", &name, "--dry-run"]).expect(0);
    assert!(!file.exists());
    let dry_printed = platform.db.tenantctl(&["rls", "context", "key", "--out", "-", "--dry-run"]).expect(0);
    let run = platform.db.tenantctl(&["rls", "context", "key", "--out", &name, "-o", "json"]).expect(0);
    let shown = platform.db.tenantctl(&["rls", "context", "show", "-o", "json"]).expect(0);
    platform.hides(&format!(
        "{dry:?} {dry_printed:?} {run:?} {shown:?} {}",
        platform.db.sql("SELECT * FROM tenancy.audit_log")
    ));
    assert_eq!(std::fs::read_to_string(&file).expect("a key"), format!("{key}\n"));
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode, Signer::read(&file).expect("a key").key_id()), (0o600, platform.signer().key_id()));

    std::fs::write(&file, "mine").expect("a file");
    let error = platform.db.refused(4, &["rls", "context", "key", "--out", &name]);
    assert_eq!(
        (error["code"].as_str(), std::fs::read(&file).expect("a file")),
        (Some("conflict"), b"mine".into())
    );
    assert!(Signer::read(&file).is_err());
    platform.db.tenantctl(&["rls", "context", "key", "--out", &name, "--force"]).expect(0);
    assert!(Signer::read(&file).is_ok());
    let run = platform.db.tenantctl(&["rls", "context", "key", "--out", "-"]).expect(0);
    assert_eq!(run.stdout.trim_end(), key);
    platform.db.tenantctl(&["rls", "context", "key", "--out", "/nonexistent/key"]).expect(1);
}

#[tokio::test]
async fn a_service_enters_a_tenant_with_its_own_key() {
    let platform = sealed().await;
    let acme = tenancy::tenant::TenantId(platform.acme.parse().expect("a tenant"));
    platform.db.sql(&format!("ALTER ROLE {} PASSWORD 'right'", platform.login));
    let login = platform.db.options.clone().username(&platform.login).password("right");
    let mut session = Session::new(login.connect().await.expect("a connection"));
    let mut transaction = session.begin().await.expect("a transaction");
    let error = transaction.enter_tenant(acme).await.expect_err("it cannot sign");
    assert_eq!(error.kind(), tenancy::ErrorKind::PermissionDenied);
    transaction.rollback().await.expect("a rollback");

    session.signer = Some(platform.signer());
    let mut transaction = session.begin().await.expect("a transaction");
    transaction.enter_tenant(acme).await.expect("a context");
    // Other sessions of the application see what this one runs, and no token in it.
    let seen =
        format!("SELECT string_agg(query, ' ') FROM pg_stat_activity WHERE usename = '{}'", platform.login);
    let seen = platform.db.sql(&seen);
    assert!(!seen.is_empty() && !seen.contains("sealed-1."), "{seen}");
    let track = "SELECT outcome FROM tenancy.track_usage(tenancy.current_tenant_id(), 'events')";
    let outcome: String = sqlx::query_scalar(track).fetch_one(&mut *transaction).await.expect("an answer");
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&mut *transaction).await.expect("rows");
    assert_eq!((outcome.as_str(), rows), ("accepted", 3));
    transaction.commit().await.expect("a commit");

    // The command line signs as the owner.
    let stats = platform.db.json(&["usage", "stats", "acme"]);
    let used = stats.as_array().and_then(|all| all.iter().find(|one| one["metric"] == "events"));
    assert_eq!(used.map(|one| one["used"].clone()), Some(1.into()));
    assert_eq!(platform.db.json(&["usage", "track", "beta", "--metric", "events"])["outcome"], "accepted");
    // A token says nothing about another tenant's usage.
    let token = platform.signed(&platform.acme);
    let other = format!("SELECT tenancy.track_usage('{}', 'events')", platform.beta);
    let run = platform.db.psql_as(&platform.login, Some(&token), &other);
    assert!(run.code != 0 && run.stderr.contains("42501"), "{run:?}");
}

#[tokio::test]
async fn a_sealed_platform_is_proven_and_a_plain_one_is_told() {
    let platform = platform().await;
    let options = &platform.db.options;
    let verify = async || {
        let report = tenancy::rls::verify(options, &Options::default()).await.expect("a report");
        let standing = ["server-outdated", "activity-oracle", "estimate-oracle"];
        let found = report.findings.iter().filter(|finding| !standing.contains(&finding.check.as_str()));
        let found: Vec<_> = found.map(|finding| (finding.severity, finding.check.clone())).collect();
        (found, report)
    };
    let (found, report) = verify().await;
    assert_eq!(found, [(Severity::Note, "context-unsealed".to_owned())], "{found:?}");
    let note = report.findings.iter().find(|finding| finding.check == "context-unsealed").expect("a note");
    common::execute(options, &note.fix).await;

    let (found, report) = verify().await;
    assert_eq!(found, [], "{:?}", report.findings);
    assert!(report.not_proven.is_empty() && report.summary.passed, "{:?}", report.not_proven);
    assert!(report.tables.iter().all(|table| table.verdict == tenancy::rls::report::Verdict::Proven));

    // A function that looks at the form of a token alone is seen through.
    for (body, words) in [
        ("SELECT substr(token, 103)", "with a forged signature"),
        ("SELECT CASE WHEN token ~ '^sealed' THEN substr(token, 103) ELSE token END", "without a signature"),
    ] {
        platform.db.sql(&format!(
            "CREATE OR REPLACE FUNCTION tenancy.unseal(token text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
             SET search_path = pg_catalog, pg_temp AS $$ {body} $$"
        ));
        let (_, report) = verify().await;
        let leak =
            report.findings.iter().find(|finding| finding.check == "spoofable-bypass").expect("a leak");
        assert!(leak.severity == Severity::Error && leak.evidence.contains(words), "{leak:?}");
    }
}

#[tokio::test]
async fn who_may_not_sign_proves_nothing() {
    let platform = sealed().await;
    // No member of the control plane's other roles: the application would reach them, in every test's database.
    let name = format!("{}_reader", platform.db.name);
    platform.db.sql(&format!(
        "CREATE ROLE {name} LOGIN PASSWORD 'right' IN ROLE tenancy_app; GRANT USAGE ON SCHEMA tenancy TO {name};
         GRANT SELECT ON tenancy.protected_tables TO {name}"
    ));
    let options = platform.db.options.clone().username(&name).password("right");
    let report = tenancy::rls::verify(&options, &Options::default()).await.expect("a report");
    let reasons: Vec<_> = report.not_proven.iter().map(|unproven| unproven.reason.as_str()).collect();
    assert!(
        reasons.iter().any(|reason| reason.contains("sealed, and whoever verifies has no key")),
        "{reasons:?}"
    );
    platform.db.sql(&format!("DROP OWNED BY {name}; DROP ROLE {name}"));
}

#[tokio::test]
async fn scripts_of_a_sealed_platform_sign_when_they_run() {
    let platform = sealed().await;
    platform.db.sql(
        "DROP POLICY tenant_floor ON events; CREATE POLICY open ON events FOR SELECT USING (name IS NULL OR true)",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().display().to_string();
    platform.db.tenantctl(&["rls", "verify", "--repro", &target]).expect(5);
    // No token is written down that would be good for a while only.
    platform.db.tenantctl(&["rls", "context", "rotate", "--grace", "0s"]).expect(0);
    let script =
        std::fs::read_dir(folder.path()).expect("a folder").next().expect("a script").expect("an entry");
    let text = std::fs::read_to_string(script.path()).expect("a script");
    assert!(text.contains("tenancy.sign_context('") && !text.contains("sealed-1."), "{text}");
    let shown = platform.db.psql(&["--no-align", "--file", &script.path().display().to_string()]).expect(0);
    // The context, and the other tenant's row.
    assert_eq!(shown.stdout.matches("(1 row)").count(), 2, "{shown:?}");
    let file = folder.path().join("tests.sql");
    platform.db.sql("DROP POLICY open ON events");
    platform.db.tenantctl(&["rls", "verify", "--pgtap", &file.display().to_string()]).expect(0);
    let text = std::fs::read_to_string(&file).expect("tests");
    assert!(text.contains("jsonb_build_object('app.current_tenant_id', tenancy.sign_context('"), "{text}");
}
