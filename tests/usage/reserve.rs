//! Usage that is held for work that may fail.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::counted;
use crate::common::{Database, Run};

fn usage(db: &Database, arguments: &[&str]) -> Run {
    db.tenantctl(&[&["usage"], arguments, &["-o", "json"]].concat())
}

fn reserve(db: &Database, more: &[&str]) -> Value {
    usage(db, &[&["reserve", "acme", "--metric", "events"], more].concat()).expect(0).json()
}

fn used(db: &Database) -> String {
    db.sql("SELECT used FROM tenancy.usage_counters WHERE metric = 'events'")
}

#[tokio::test]
async fn what_is_reserved_is_committed_or_goes_back() {
    let db = Database::with_acme("professional").await;
    let before = db.dump();
    assert_eq!(reserve(&db, &["--amount", "8", "--dry-run"])["dry_run"], true);
    assert_eq!(db.dump(), before);

    let first = reserve(&db, &["--amount", "8", "--key", "job"]);
    assert_eq!(
        (&first["used"], &first["remaining"], &first["state"]),
        (&json!(8), &json!(12), &json!("open"))
    );
    let again = reserve(&db, &["--amount", "8", "--key", "job"]);
    assert_eq!((&again["outcome"], &again["reservation"]), (&json!("duplicate"), &first["reservation"]));
    let error = usage(&db, &["reserve", "acme", "--metric", "events", "--key", "job"]).expect(4).error();
    assert!(error["message"].as_str().unwrap().contains("another amount"), "{error}");
    // It counts against the limit, for every way in.
    usage(&db, &["track", "acme", "--metric", "events", "--amount", "13"]).expect(6);
    usage(&db, &["reconcile"]).expect(0);
    let error = usage(&db, &["reserve", "acme", "--metric", "events", "--amount", "13"]).expect(6).error();
    assert_eq!(error["details"]["used"], 8);
    assert_eq!(counted(&db, "events"), ("8".into(), "0".into()));

    let id = first["reservation"].as_str().unwrap();
    usage(&db, &["commit", "acme", id, "--amount", "9"]).expect(2);
    usage(&db, &["commit", "acme", id, "--amount=-1"]).expect(2);
    let done = usage(&db, &["commit", "acme", id, "--amount", "5"]).expect(0).json();
    assert_eq!(
        (&done["amount"], &done["used"], &done["outcome"]),
        (&json!(5), &json!(5), &json!("accepted"))
    );
    let after = db.dump();
    assert_eq!(usage(&db, &["commit", "acme", id, "--amount", "5"]).expect(0).json()["outcome"], "duplicate");
    assert_eq!(usage(&db, &["commit", "acme", id]).expect(0).json()["amount"], 5);
    usage(&db, &["commit", "acme", id, "--amount", "4"]).expect(4);
    let error = usage(&db, &["release", "acme", id]).expect(4).error();
    assert!(error["message"].as_str().unwrap().contains("is committed"), "{error}");
    assert_eq!(reserve(&db, &["--amount", "8", "--key", "job"])["state"], "committed");
    assert_eq!(db.dump(), after);
    assert_eq!(counted(&db, "events"), ("5".into(), "5".into()));

    let second = reserve(&db, &["--amount", "3"]);
    let id = second["reservation"].as_str().unwrap();
    assert_eq!(usage(&db, &["release", "acme", id]).expect(0).json()["outcome"], "removed");
    assert_eq!(usage(&db, &["release", "acme", id]).expect(0).json()["outcome"], "unchanged");
    let error = usage(&db, &["commit", "acme", id]).expect(4).error();
    assert!(error["message"].as_str().unwrap().contains("is released"), "{error}");
    assert_eq!(counted(&db, "events"), ("5".into(), "5".into()));

    // A key is one for all ways in.
    usage(&db, &["track", "acme", "--metric", "events", "--key", "tracked"]).expect(0);
    let known = reserve(&db, &["--key", "tracked"]);
    assert_eq!(
        (&known["outcome"], &known["reservation"], &known["state"]),
        (&json!("duplicate"), &Value::Null, &json!("committed"))
    );
    let third = reserve(&db, &["--key", "both"]);
    usage(&db, &["track", "acme", "--metric", "events", "--key", "both"]).expect(0);
    let done = usage(&db, &["commit", "acme", third["reservation"].as_str().unwrap()]).expect(0).json();
    assert_eq!((&done["outcome"], &done["used"]), (&json!("duplicate"), &json!(7)));
    assert_eq!(counted(&db, "events"), ("7".into(), "7".into()));

    // What cannot be.
    let nobody = "00000000-0000-0000-0000-000000000001";
    for verb in ["commit", "release"] {
        assert_eq!(usage(&db, &[verb, "acme", nobody]).expect(3).error()["details"]["kind"], "reservation");
        usage(&db, &[verb, "acme", "x"]).expect(2);
    }
    for wrong in [["--amount", "0"], ["--for", "31d"], ["--for", "0s"], ["--key", ""]] {
        usage(&db, &[&["reserve", "acme", "--metric", "events"][..], &wrong[..]].concat()).expect(2);
    }
    usage(&db, &["reserve", "acme", "--metric", "admins"]).expect(2);
    db.tenantctl(&["tenant", "create", "Beta"]).expect(0);
    let fourth = reserve(&db, &[]);
    usage(&db, &["release", "beta", fourth["reservation"].as_str().unwrap()]).expect(3);
}

#[tokio::test]
async fn what_is_held_too_long_goes_to_whoever_needs_the_room() {
    let db = Database::with_acme("professional").await;
    let held = |n: usize| {
        (0..n)
            .map(|_| reserve(&db, &["--amount", "10"])["reservation"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let late = || {
        db.sql("UPDATE tenancy.usage_reservations SET expires_at = now() - interval '1 second' WHERE state = 'open'");
    };
    let ids = held(2);
    usage(&db, &["track", "acme", "--metric", "events"]).expect(6);
    late();
    // Late, but nobody needed it.
    usage(&db, &["commit", "acme", &ids[0], "--amount", "9"]).expect(0);
    usage(&db, &["track", "acme", "--metric", "events"]).expect(0);
    assert_eq!(used(&db), "20");
    usage(&db, &["track", "acme", "--metric", "events"]).expect(0);
    assert_eq!(used(&db), "11");
    let error = usage(&db, &["commit", "acme", &ids[1]]).expect(4).error();
    assert!(error["message"].as_str().unwrap().contains("expired"), "{error}");
    assert_eq!(usage(&db, &["release", "acme", &ids[1]]).expect(0).json()["outcome"], "unchanged");

    // The same for a file, and for another reservation.
    usage(&db, &["reserve", "acme", "--metric", "events", "--amount", "9"]).expect(0);
    late();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage");
    std::fs::write(&file, "{\"tenant\":\"acme\",\"metric\":\"events\",\"amount\":4}\n").unwrap();
    usage(&db, &["ingest", file.to_str().unwrap()]).expect(0);
    assert_eq!(used(&db), "15");
    usage(&db, &["reserve", "acme", "--metric", "events", "--amount", "5"]).expect(0);
    late();
    usage(&db, &["reserve", "acme", "--metric", "events", "--amount", "5"]).expect(0);
    assert_eq!(used(&db), "20");
    assert_eq!(counted(&db, "events").1, "15");
}

#[tokio::test]
async fn reservations_at_once_hold_exactly_the_limit() {
    let db = Arc::new(Database::with_acme("professional").await);
    let acme = db.sql("SELECT id FROM tenancy.tenants");
    let login = db.app_login();
    let mut tasks = JoinSet::new();
    for caller in 0..24 {
        let (db, acme, login) = (Arc::clone(&db), acme.clone(), login.clone());
        tasks.spawn_blocking(move || {
            // Two callers for each key; a third each commits, releases, and leaves it.
            let key = caller / 2;
            let reserve = format!(
                "SELECT reservation FROM tenancy.reserve_usage('{acme}', 'events', 2, '1 hour', 'k{key}')"
            );
            let id = db.psql_as(&login, Some(&acme), &reserve).expect(0).stdout.trim().to_owned();
            if id.is_empty() {
                return;
            }
            let then = match key % 3 {
                0 => format!("SELECT tenancy.commit_usage('{acme}', '{id}', 1)"),
                1 => format!("SELECT tenancy.release_usage('{acme}', '{id}')"),
                _ => return,
            };
            db.psql_as(&login, Some(&acme), &then).expect(0);
        });
    }
    tasks.join_all().await;
    let sums = "SELECT c.used, c.used - coalesce((SELECT sum(amount) FROM tenancy.usage_events), 0)
                       - coalesce((SELECT sum(amount) FROM tenancy.usage_reservations WHERE state = 'open'), 0)
                  FROM tenancy.usage_counters c";
    let sums = db.sql(sums);
    let (used, drift) = sums.split_once('|').unwrap();
    assert_eq!(drift, "0");
    assert!(used.parse::<i64>().unwrap() <= 20);
    assert_eq!(db.sql("SELECT count(*) = count(DISTINCT key) FROM tenancy.usage_reservations"), "t");
    // In another tenant's context there is none of them.
    let other = db.psql_as(
        &login,
        Some("00000000-0000-0000-0000-000000000001"),
        "SELECT count(*) FROM tenancy.usage_reservations",
    );
    assert_eq!(other.expect(0).stdout.trim(), "0");
}

/// A release gives back what is used; what is reserved is not there to be given.
#[tokio::test]
async fn what_is_reserved_is_not_released() {
    let db = Database::with_acme("professional").await;
    let track =
        |amount: &str| usage(&db, &["track", "acme", "--metric", "events", &format!("--amount={amount}")]);
    track("3").expect(0);
    let held = reserve(&db, &["--amount", "4", "--key", "held"]);
    let id = held["reservation"].as_str().unwrap();
    let error = track("-4").expect(2).error();
    assert!(error["message"].as_str().unwrap().contains("only 7 events are used"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("release.ndjson");
    let lines = r#"{"tenant":"acme","metric":"events","amount":-4}
{"tenant":"acme","metric":"events","amount":-2}
{"tenant":"acme","metric":"events","amount":-2}
{"tenant":"acme","metric":"events","amount":-1}
"#;
    std::fs::write(&file, lines).unwrap();
    let report = usage(&db, &["ingest", file.to_str().unwrap()]).expect(5).json();
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(2), &json!(2)), "{report}");
    assert_eq!(used(&db), "4");

    // Its key comes to be another metric's: it cannot be committed, and can be released.
    let key = ["track", "acme", "--metric", "storage", "--amount", "1", "--key", "held"];
    usage(&db, &key).expect(0);
    let error = usage(&db, &["commit", "acme", id]).expect(4).error();
    assert!(error["message"].as_str().unwrap().contains("another metric"), "{error}");
    usage(&db, &["release", "acme", id]).expect(0);
    assert_eq!(used(&db), "0");
    usage(&db, &["reconcile"]).expect(0);
}
