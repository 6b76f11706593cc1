//! Usage on the command line: what is counted, what is refused, and that no concurrency gets past a limit.

use std::process::{Child, Stdio};

use serde_json::{Value, json};

mod alerts;
mod all_ways;
mod app;
mod forecast;
mod history;
mod ingest;
mod meter;
mod meter_attack;
mod meter_beside;
mod meter_list;
mod race;
mod reconcile;
mod record;
mod recorder;
mod reserve;
mod schedules;

use crate::common::{Database, Run};

fn track(db: &Database, arguments: &[&str]) -> Run {
    db.tenantctl(&[&["usage", "track", "acme", "-o", "json"], arguments].concat())
}

/// What the counter of a metric says, and the sum of its ledger.
fn counted(db: &Database, metric: &str) -> (String, String) {
    let used = format!("SELECT coalesce(sum(used), 0) FROM tenancy.usage_counters WHERE metric = '{metric}'");
    let sum = format!("SELECT coalesce(sum(amount), 0) FROM tenancy.usage_events WHERE metric = '{metric}'");
    (db.sql(&used), db.sql(&sum))
}

#[tokio::test]
async fn usage_is_recorded_and_shown() {
    let db = Database::with_acme("professional").await;
    let run = track(&db, &["--metric", "events", "--amount", "5", "--key", "import-1"]).expect(0);
    assert_eq!(
        run.json(),
        json!({ "tenant": "acme", "metric": "events", "amount": 5, "used": 5, "limit": 20, "remaining": 15,
                "period_start": null, "outcome": "accepted" })
    );
    let names: Vec<_> = run.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        names,
        ["tenant", "metric", "amount", "used", "limit", "remaining", "period_start", "outcome"]
    );
    assert_eq!(run.stderr, "");
    let one = track(&db, &["--metric", "events"]).expect(0).json();
    assert_eq!((&one["amount"], &one["used"]), (&json!(1), &json!(6)));

    track(&db, &["--metric=storage", "--amount=1GB"]).expect(0);
    let stats = db.json(&["usage", "stats", "acme"]);
    let stat = |metric: &str, unit: &str, used: u64, limit: u64, percent: f64| {
        json!({ "metric": metric, "unit": unit, "used": used, "limit": limit, "remaining": limit - used,
                "percent": percent, "period_start": null, "source": "plan", "soft": false })
    };
    assert_eq!(
        stats,
        json!([
            stat("events", "count", 6, 20, 30.0),
            stat("participants", "count", 0, 1000, 0.0),
            stat("storage", "bytes", 1 << 30, 25 << 30, 4.0),
            stat("admins", "count", 0, 10, 0.0),
        ])
    );
    let table = db.tenantctl(&["usage", "stats", "acme"]).expect(0).stdout;
    assert!(table.contains("1GB") && table.contains("25GB") && table.contains("30.0 %"), "{table}");
    db.refused(3, &["usage", "stats", "amce"]);
}

#[tokio::test]
async fn sizes_are_read_as_postgresql_reads_them() {
    let db = Database::with_acme("enterprise").await;
    for (text, theirs) in [
        ("1GB", "1GB"),
        ("512 MiB", "512 MB"),
        ("10kB", "10kB"),
        ("10KB", "10kB"),
        ("7", "7"),
        ("7B", "7 bytes"),
    ] {
        let tracked = track(&db, &["--metric=storage", "--amount", text]).expect(0).json();
        assert_eq!(
            tracked["amount"].to_string(),
            db.sql(&format!("SELECT pg_size_bytes('{theirs}')")),
            "{text}"
        );
        track(&db, &["--metric=storage", "--amount", &format!("-{text}")]).expect(0);
    }
    assert_eq!(counted(&db, "storage"), ("0".into(), "0".into()));
}

#[tokio::test]
async fn a_limit_refuses_and_nothing_is_changed() {
    let db = Database::with_acme("free").await;
    track(&db, &["--metric", "events", "--amount", "2"]).expect(6);
    track(&db, &["--metric", "events"]).expect(0);
    let before = db.dump();
    let run = track(&db, &["--metric", "events", "--key", "second"]).expect(6);
    let facts =
        json!({ "tenant": "acme", "metric": "events", "amount": 1, "used": 1, "limit": 1, "remaining": 0 });
    let mut answer = facts.clone();
    answer["period_start"] = Value::Null;
    answer["outcome"] = json!("rejected");
    assert_eq!(run.json(), answer);
    let error = run.error();
    let mut details = facts;
    details["plan"] = json!("free");
    details["outcome"] = json!("rejected");
    assert_eq!((&error["code"], &error["details"]), (&json!("limit_exceeded"), &details));
    let text = db.tenantctl(&["usage", "track", "acme", "--metric", "events"]).expect(6);
    assert_eq!(text.stdout, "");
    assert!(
        text.stderr.starts_with("error: ") && text.stderr.contains("1 used of 1 on plan free"),
        "{text:?}"
    );
    assert_eq!(db.dump(), before);
    // A key that was refused is not used up.
    db.tenantctl(&["tenant", "update", "acme", "--plan", "starter"]).expect(0);
    assert_eq!(
        track(&db, &["--metric", "events", "--key", "second"]).expect(0).json()["outcome"],
        "accepted"
    );
}

#[tokio::test]
async fn a_key_makes_it_safe_to_repeat() {
    let db = Database::with_acme("professional").await;
    let keyed = ["--metric", "events", "--amount", "3", "--key", "k'1"];
    let first = track(&db, &keyed).expect(0).json();
    track(&db, &["--metric", "events", "--amount", "10"]).expect(0);
    let before = db.dump();
    let mut again = track(&db, &keyed).expect(0).json();
    assert_eq!(again["outcome"].take(), "duplicate");
    again["outcome"] = json!("accepted");
    assert_eq!(again, first, "the first answer, not the state of now");
    for other in [
        &["--metric", "events", "--amount", "4", "--key", "k'1"][..],
        &["--metric", "participants", "--amount", "3", "--key", "k'1"],
        &["--metric", "events", "--amount", "1000", "--key", "k'1"],
    ] {
        let error = track(&db, other).expect(4).error();
        assert_eq!(error["details"], json!({ "kind": "key", "name": "k'1" }));
    }
    track(&db, &["--metric", "events", "--key", ""]).expect(2);
    track(&db, &["--metric", "events", "--key", &"k".repeat(1025)]).expect(2);
    assert_eq!(db.dump(), before);
    // Another tenant's keys are its own, and a full limit does not hide a duplicate.
    db.tenantctl(&["tenant", "create", "Beta"]).expect(0);
    let beta = ["usage", "track", "beta", "--metric", "events", "--key", "k'1"];
    assert_eq!(db.json(&beta)["outcome"], "accepted");
    assert_eq!(db.json(&beta)["outcome"], "duplicate");
}

#[tokio::test]
async fn a_release_gives_back_what_was_used_and_no_more() {
    let db = Database::with_acme("free").await;
    track(&db, &["--metric", "participants", "--amount", "-1"]).expect(2);
    track(&db, &["--metric", "participants", "--amount", "10"]).expect(0);
    let released = track(&db, &["--metric", "participants", "--amount", "-4"]).expect(0).json();
    assert_eq!((&released["amount"], &released["used"]), (&json!(-4), &json!(6)));
    let before = db.dump();
    let error = track(&db, &["--metric", "participants", "--amount=-7"]).expect(2).error();
    assert!(error["message"].as_str().unwrap().contains("only 6 participants are used"), "{error}");
    assert_eq!(db.dump(), before);
    track(&db, &["--metric", "participants", "--amount=-6"]).expect(0);
    assert_eq!(counted(&db, "participants"), ("0".into(), "0".into()));

    // A counter of a period only grows.
    db.sql("UPDATE tenancy.metrics SET kind = 'counter' WHERE key = 'participants'");
    track(&db, &["--metric", "participants", "--amount", "2"]).expect(0);
    let error = track(&db, &["--metric", "participants", "--amount=-1"]).expect(2).error();
    assert!(error["message"].as_str().unwrap().contains("only grows"), "{error}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let db = Database::with_acme("enterprise").await;
    track(&db, &["--metric", "events"]).expect(0);
    let before = db.dump();
    for amount in ["0", "x", "", "1.5", "1GB", "--1", "9223372036854775808", "-9223372036854775808", "1e3"] {
        let error = track(&db, &["--metric", "events", &format!("--amount={amount}")]).expect(2).error();
        assert_eq!(error["details"]["field"], "amount", "{amount}: {error}");
    }
    for amount in ["1XB", "GB", "9007199254740992kB", "0GB"] {
        track(&db, &["--metric", "storage", "--amount", amount]).expect(2);
    }
    // The largest number there is neither overflows nor gets in, with a limit and without.
    track(&db, &["--metric", "events", "--amount", "9223372036854775807"]).expect(6);
    let mut command = db.command();
    command.env("ENTERPRISE_PLAN_EVENTS", "unlimited");
    command.args(["usage", "track", "acme", "--metric", "events", "--amount", "9223372036854775807"]);
    crate::common::run(&mut command).expect(6);

    let error = track(&db, &["--metric", "event"]).expect(3).error();
    assert_eq!(error["details"], json!({ "kind": "metric", "name": "event", "suggestion": "events" }));
    let error = track(&db, &["--metric", "admins"]).expect(2).error();
    assert!(error["hint"].as_str().unwrap().contains("tenantctl user"), "{error}");
    track(&db, &[]).expect(2);
    track(&db, &["--metric", "events", "--at", "yesterday"]).expect(2);
    db.refused(3, &["usage", "track", "nobody", "--metric", "events"]);
    assert_eq!(db.dump(), before);
    db.tenantctl(&["tenant", "suspend", "acme"]).expect(0);
    let error = track(&db, &["--metric", "events"]).expect(10).error();
    assert!(error["message"].as_str().unwrap().contains("suspended"), "{error}");
    db.tenantctl(&["tenant", "resume", "acme"]).expect(0);
    track(&db, &["--metric", "events", "--dry-run"]).expect(0);
    assert_eq!(db.sql("SELECT sum(used) FROM tenancy.usage_counters"), "1");
}

#[tokio::test]
async fn the_time_of_use_decides_the_period() {
    let db = Database::with_acme("starter").await;
    db.sql("UPDATE tenancy.metrics SET kind = 'counter', reset = 'monthly' WHERE key = 'events'");
    let at =
        |time: &str, code: i32| track(&db, &["--metric=events", "--amount=5", "--at", time]).expect(code);
    let answer = at("2026-10-31T23:59:59Z", 0).json();
    assert_eq!((&answer["used"], &answer["period_start"]), (&json!(5), &json!("2026-10-01T00:00:00Z")));
    // A zone moves it into the next month, which has a limit of its own.
    let answer = at("2026-10-31T23:00:00-02:00", 0).json();
    assert_eq!((&answer["used"], &answer["period_start"]), (&json!(5), &json!("2026-11-01T00:00:00Z")));
    let rejected = at("2026-10-02T00:00:00Z", 6).json();
    assert_eq!(rejected["period_start"], "2026-10-01T00:00:00Z");
    assert_eq!(
        db.sql("SELECT string_agg(occurred_at::date::text, ' ' ORDER BY recorded_at, used) FROM tenancy.usage_events"),
        "2026-10-31 2026-11-01"
    );
}

/// Starts many commands at once, without waiting for any.
fn start(db: &Database, count: usize, arguments: impl Fn(usize) -> Vec<String>) -> Vec<Child> {
    (0..count)
        .map(|n| {
            let mut command = db.command();
            command.args(["usage", "track", "acme", "--metric", "events"]).args(arguments(n));
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect()
}

fn codes(children: Vec<Child>) -> Vec<Option<i32>> {
    children.into_iter().map(|mut child| child.wait().unwrap().code()).collect()
}

#[tokio::test]
async fn sixty_four_processes_against_a_limit_of_twenty_leave_twenty() {
    let db = Database::with_acme("professional").await;
    let codes = codes(start(&db, 64, |_| Vec::new()));
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 20, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(6)).count(), 44, "{codes:?}");
    assert_eq!(counted(&db, "events"), ("20".into(), "20".into()));
    assert_eq!(db.sql("SELECT count(*) FROM tenancy.usage_events"), "20");
}

#[tokio::test]
async fn processes_that_are_killed_leave_the_counter_true_to_the_ledger() {
    let db = Database::with_acme("enterprise").await;
    track(&db, &["--metric", "events"]).expect(0);
    // Half are killed while they wait for the counter, the others live; then some are killed wherever they are.
    let mut session = db.session().await;
    let mut transaction = session.begin_as_owner().await.unwrap();
    sqlx::query("SELECT FROM tenancy.usage_counters FOR UPDATE").execute(&mut *transaction).await.unwrap();
    let mut children = start(&db, 12, |n| vec![format!("--key=k{n}")]);
    db.blocked(12).await;
    for child in children.iter_mut().step_by(2) {
        child.kill().unwrap();
    }
    transaction.rollback().await.unwrap();
    let mut wild = start(&db, 12, |n| vec![format!("--key=wild{n}")]);
    for (n, child) in wild.iter_mut().enumerate() {
        std::thread::sleep(std::time::Duration::from_millis(n as u64 * 3));
        // It may be over already.
        let _over = child.kill();
    }
    let lived = codes(children).into_iter().filter(|code| *code == Some(0)).count();
    assert_eq!(lived, 6);
    let survived = codes(wild).into_iter().filter(|code| *code == Some(0)).count();
    // What the dead had begun ends on the server by itself.
    db.quiet().await;
    let (used, sum) = counted(&db, "events");
    assert_eq!(used, sum);
    assert!(
        used.parse::<usize>().unwrap() > lived + survived,
        "{used} of {lived} + {survived} and one before"
    );
    assert_eq!(
        db.sql("SELECT count(*) FROM tenancy.usage_events WHERE key IN ('k0','k2','k4','k6','k8','k10')"),
        "0"
    );
    // A repetition of everything counts each once.
    assert!(codes(start(&db, 12, |n| vec![format!("--key=k{n}")])).iter().all(|code| *code == Some(0)));
    let (used, sum) = counted(&db, "events");
    assert_eq!(used, sum);
}
