//! `usage ingest` and `usage prune`: an answer for every line, and nothing counted twice.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::counted;
use crate::common::{Database, Run, run};

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }
}

fn ingest(db: &Database, file: &Path, more: &[&str]) -> Run {
    let mut arguments = vec!["usage", "ingest", file.to_str().unwrap(), "-o", "json"];
    arguments.extend(more);
    db.tenantctl(&arguments)
}

fn results(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn outcomes(results: &[Value]) -> Vec<(u64, &str)> {
    results.iter().map(|r| (r["line"].as_u64().unwrap(), r["outcome"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn every_line_has_its_own_answer() {
    let db = Database::with_acme("professional").await;
    let files = Files::new();
    let id = db.sql("SELECT id FROM tenancy.tenants");
    let long = "k".repeat(10_000);
    let lines = [
        r#"{"tenant":"acme","metric":"events","key":"a"}"#.to_owned(),
        r#"{"tenant":"acme","metric":"events","key":"a"}"#.into(),
        r#"{"tenant":"acme","metric":"events","amount":2,"key":"a"}"#.into(),
        String::new(),
        format!(r#"{{"tenant":"{id}","metric":"storage","amount":"1MB"}}"#),
        r#"{"tenant":"nobody","metric":"events"}"#.into(),
        r#"{"tenant":"acme","metric":"event"}"#.into(),
        r#"{"tenant":"acme","metric":"events","at":"2001-01-01T00:00:00Z"}"#.into(),
        r#"{"tenant":"acme","metric":"events","at":"2999-01-01T00:00:00Z"}"#.into(),
        r#"{"tenant":"acme","metric":"events","at":"yesterday"}"#.into(),
        r#"{"tenant":"acme","metric":"events","amount":21}"#.into(),
        r#"{"tenant":"acme","metric":"events","amount":-9}"#.into(),
        r#"{"tenant":"acme","metric":"events","amount":0}"#.into(),
        r#"{"tenant":"acme","metric":"events","amount":99999999999999999999}"#.into(),
        r#"{"tenant":"acme","metric":"events","amount":9223372036854775807}"#.into(),
        r#"{"tenant":"acme","metric":"events","amount":1.5}"#.into(),
        r#"{"tenant":"acme","metric":"events","kee":"a"}"#.into(),
        r#"{"tenant":"acme","metric":"events","key":""}"#.into(),
        format!(r#"{{"tenant":"acme","metric":"events","key":"{long}"}}"#),
        r#"{"tenant":"acme","metric":"admins"}"#.into(),
        r#"{"tenant":"acme""#.into(),
        "[]".into(),
        "x".repeat(70_000),
        r#"{"tenant":"ac\u0000me","metric":"events"}"#.into(),
        r#"{"tenant":"'; DROP TABLE x; --","metric":"events"}"#.into(),
        r#"{"tenant":"acme","metric":"events","key":"b"}"#.into(),
    ];
    let file = files.write("usage.ndjson", lines.join("\n"));
    let out = files.path("results");
    let before = db.dump();
    let wet = ["--results", out.to_str().unwrap()];
    let report = ingest(&db, &file, &["--results", out.to_str().unwrap(), "--dry-run"]).expect(5).json();
    assert_eq!((&report["lines"], &report["dry_run"]), (&json!(25), &json!(true)));
    assert_eq!(db.dump(), before);
    let dry = results(&out);

    let report = ingest(&db, &file, &wet).expect(5).json();
    let told = results(&out);
    assert_eq!(dry, told, "a dry run says what comes true");
    assert_eq!(
        outcomes(&told),
        [
            (1, "accepted"),
            (2, "duplicate"),
            (3, "invalid"),
            (5, "accepted"),
            (6, "unknown_tenant"),
            (7, "unknown_metric"),
            (8, "too_old"),
            (9, "invalid"),
            (10, "invalid"),
            (11, "rejected"),
            (12, "rejected"),
            (13, "invalid"),
            (14, "invalid"),
            (15, "rejected"),
            (16, "invalid"),
            (17, "invalid"),
            (18, "invalid"),
            (19, "invalid"),
            (20, "invalid"),
            (21, "invalid"),
            (22, "invalid"),
            (23, "invalid"),
            (24, "invalid"),
            (25, "unknown_tenant"),
            (26, "accepted"),
        ]
    );
    let reason = |line: u64| {
        told.iter().find(|r| r["line"] == line).unwrap()["reason"].as_str().unwrap_or_default().to_owned()
    };
    for (line, part) in [
        (3, "another amount"),
        (10, "write for example"),
        (14, "whole number"),
        (17, "unknown field `kee`"),
        (19, "1 to 1024 bytes"),
        (20, "counted from elsewhere"),
        (23, "65536 bytes"),
        (24, "NUL"),
    ] {
        assert!(reason(line).contains(part), "{line}: {}", reason(line));
    }
    assert_eq!(
        (&report["accepted"], &report["invalid"], &report["rejected"]),
        (&json!(3), &json!(14), &json!(3))
    );
    assert_eq!(report["not_accepted"].as_array().unwrap().len(), 20, "the first of them");
    assert_eq!(counted(&db, "events"), ("2".into(), "2".into()));

    // The same again counts nothing, with a key or without: the file's digest makes one.
    let before = db.dump();
    let report = ingest(&db, &file, &wet).expect(5).json();
    assert_eq!((&report["accepted"], &report["duplicate"]), (&json!(0), &json!(4)));
    assert_eq!(db.dump(), before);
}

#[tokio::test]
async fn csv_gzip_and_standard_input_are_read() {
    let db = Database::with_acme("professional").await;
    let files = Files::new();
    let csv = "metric,tenant,amount,key,at\nstorage,acme,5kB,\"a,\"\"b\"\n\nevents,acme,,c,\nevents,acme,1,d,2999-01-01T00:00:00Z\nevents,acme\n";
    let csv = csv.replace("\"a,\"\"b\"\n", "\"a,\"\"b\",\n");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(csv.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let file = files.write("usage.csv.gz", &packed);
    let report = ingest(&db, &file, &[]).expect(5).json();
    assert_eq!((&report["accepted"], &report["invalid"]), (&json!(2), &json!(2)));
    let lines: Vec<&Value> = report["not_accepted"].as_array().unwrap().iter().map(|r| &r["line"]).collect();
    assert_eq!(lines, [5, 6]);
    assert_eq!(db.sql("SELECT string_agg(key, ' ' ORDER BY key) FROM tenancy.usage_events"), "a,\"b c");
    ingest(&db, &files.write("csv", csv), &[]).expect(5);
    assert_eq!(counted(&db, "storage").0, "5120");

    // What is no file of usage is refused as a whole.
    for (content, words) in [
        (b"tenant,metric,quantity\n".to_vec(), "no column \"quantity\""),
        (b"a,b\n1,2\n".to_vec(), "no columns tenant and metric"),
        (packed[..packed.len() - 12].to_vec(), "usage.bad"),
    ] {
        let file = files.write("usage.bad", content);
        let error = ingest(&db, &file, &[]).expect(2).error();
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    ingest(&db, &files.path("nowhere"), &[]).expect(2);
    ingest(&db, &files.write("empty", ""), &[]).expect(0);

    // Standard input: a line without a key counts each time, which is said, unless the batch has a name.
    let feed = |arguments: &[&str], text: &str| {
        let mut command = db.command();
        command.args(["usage", "ingest", "-", "-o", "json"]).args(arguments);
        let file = files.write("stdin", text);
        command.stdin(std::fs::File::open(file).unwrap());
        run(&mut command)
    };
    let line = "{\"tenant\":\"acme\",\"metric\":\"events\"}\n";
    assert_eq!(feed(&[], line).expect(0).json()["without_key"], 1);
    let again = feed(&[], line).expect(0);
    assert!(again.stderr.contains("--batch"), "{}", again.stderr);
    assert_eq!(again.json()["accepted"], 1);
    assert_eq!(feed(&["--batch", "monday"], line).expect(0).json()["accepted"], 1);
    assert_eq!(feed(&["--batch", "monday"], line).expect(0).json()["duplicate"], 1);
    assert_eq!(feed(&["--batch", "tuesday"], line).expect(0).json()["accepted"], 1);
}

#[tokio::test]
async fn the_limit_goes_to_those_that_happened_first() {
    let db = Database::with_acme("professional").await;
    let files = Files::new();
    // The limit is 20; the last lines happened first.
    let lines: Vec<String> = (0..30)
        .map(|n| {
            let at = db_time(n);
            format!(r#"{{"tenant":"acme","metric":"events","key":"{n}","at":"{at}"}}"#)
        })
        .rev()
        .collect();
    let out = files.path("results");
    ingest(&db, &files.write("usage", lines.join("\n")), &["--results", out.to_str().unwrap()]).expect(5);
    let refused: Vec<u64> = results(&out)
        .iter()
        .filter(|r| r["outcome"] == "rejected")
        .map(|r| r["line"].as_u64().unwrap())
        .collect();
    assert_eq!(refused, (1..=10).collect::<Vec<u64>>());
    assert_eq!(results(&out)[0]["used"], 20);
    // Limits from the environment hold, too.
    let mut command = db.command();
    command
        .env("PROFESSIONAL_PLAN_EVENTS", "25")
        .args(["usage", "ingest", "-o", "json"])
        .arg(files.path("usage"));
    let report = run(&mut command).expect(5).json();
    assert_eq!(
        (&report["accepted"], &report["duplicate"], &report["rejected"]),
        (&json!(5), &json!(20), &json!(5))
    );
}

fn db_time(minutes: i64) -> String {
    (time::OffsetDateTime::now_utc() - time::Duration::hours(2) + time::Duration::minutes(minutes))
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap()
}

#[tokio::test]
async fn a_killed_ingest_is_run_again_and_counts_every_line_once() {
    let db = Database::with_acme("enterprise").await;
    db.sql("UPDATE tenancy.plan_limits SET limit_value = 170000 WHERE plan = 'enterprise' AND metric = 'participants'");
    let files = Files::new();
    // Lines without keys; the file is three batches and a half, and the limit is within the last.
    let line = "{\"tenant\":\"acme\",\"metric\":\"participants\"}\n";
    let file = files.write("usage", line.repeat(180_000));
    for _ in 0..3 {
        let recorded = || db.sql("SELECT count(*) FROM tenancy.usage_events").parse::<u64>().unwrap();
        let before = recorded();
        let mut command: Command = db.command();
        command.args(["usage", "ingest"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while recorded() == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        db.quiet().await;
        assert_eq!(counted(&db, "participants").0, recorded().to_string(), "a batch counts as a whole");
    }
    let report = ingest(&db, &file, &[]).expect(5).json();
    assert_eq!(report["rejected"], 10_000);
    assert_eq!(counted(&db, "participants"), ("170000".into(), "170000".into()));
}

#[tokio::test]
async fn old_usage_goes_by_the_part_and_its_days_stay() {
    let db = Database::with_acme("enterprise").await;
    let files = Files::new();
    let file = files.write(
        "usage",
        (1..=6)
            .map(|n| {
                format!(
                    "{{\"tenant\":\"acme\",\"metric\":\"events\",\"key\":\"{n}\",\"at\":\"{}\"}}\n",
                    db_time(n)
                )
            })
            .collect::<String>(),
    );
    ingest(&db, &file, &[]).expect(0);
    let prune = |more: &[&str]| {
        let mut arguments = vec!["usage", "prune", "-o", "json"];
        arguments.extend(more);
        db.tenantctl(&arguments)
    };
    let age = |days: i32| {
        db.sql(&format!("UPDATE tenancy.usage_epochs SET opened_at = opened_at - interval '{days} days'"))
    };
    assert_eq!(prune(&[]).expect(0).json(), json!({ "dropped": 0, "events": 0, "opened": false }));
    age(31);
    let before = db.dump();
    assert_eq!(prune(&["--dry-run"]).expect(0).json()["opened"], true);
    assert_eq!(db.dump(), before);
    ingest(&db, &file, &[]).expect(0);
    assert_eq!(prune(&[]).expect(0).json(), json!({ "dropped": 0, "events": 0, "opened": true }));

    // A key of the older part is a duplicate still, for each way in.
    assert_eq!(ingest(&db, &file, &[]).expect(0).json()["duplicate"], 6);
    let track = ["usage", "track", "acme", "--metric", "events", "--key", "6", "-o", "json"];
    assert_eq!(db.tenantctl(&track).expect(0).json()["outcome"], "duplicate");

    age(91);
    assert_eq!(prune(&["--dry-run"]).expect(0).json()["events"], 6);
    assert_eq!(prune(&[]).expect(0).json(), json!({ "dropped": 1, "events": 6, "opened": true }));
    assert_eq!(prune(&[]).expect(0).json(), json!({ "dropped": 0, "events": 0, "opened": false }));
    assert_eq!(db.sql("SELECT sum(amount), sum(events) FROM tenancy.usage_days"), "6|6");
    assert_eq!(counted(&db, "events").0, "6", "what is used stays used");
    assert_eq!(
        db.sql("SELECT details FROM tenancy.audit_log WHERE action = 'usage.prune'"),
        r#"{"epoch": 1, "events": 6}"#
    );

    // What could be among the forgotten keys is not counted anew, even if somebody asks for it.
    db.sql("UPDATE tenancy.usage_epochs SET opened_at = now() - interval '30 minutes' WHERE epoch = 2");
    let report = ingest(&db, &file, &["--window", "1000d"]).expect(5).json();
    assert_eq!((&report["too_old"], &report["accepted"]), (&json!(6), &json!(0)));
    // A snapshot from before a new part does not see all keys of the one that was: it is told to look again.
    let mut session = db.session().await;
    let connection = session.connection();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT tenancy.usage_epoch(); COMMIT")
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM tenancy.usage_epochs")
        .execute(&mut *connection)
        .await
        .unwrap();
    age(31);
    assert_eq!(prune(&[]).expect(0).json()["opened"], true);
    let error = sqlx::query("SELECT tenancy.usage_epoch()").execute(&mut *connection).await.unwrap_err();
    assert!(error.to_string().contains("new epoch"), "{error}");

    let error = prune(&["--keep", "1h"]).expect(2).error();
    assert!(error["message"].as_str().unwrap().contains("a day at least"), "{error}");
}
