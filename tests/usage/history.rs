//! What was used in the past: by day, from the ledger and from what is kept of it by day, and entry by entry.

use serde_json::{Value, json};

use super::track;
use crate::common::Database;

const NOVEMBER: [&str; 4] = ["--since", "2026-11-01", "--until", "2026-11-05"];

fn history(db: &Database, arguments: &[&str]) -> Value {
    db.json(&[&["usage", "history", "acme", "--metric"], arguments].concat())
}

fn used(db: &Database, amount: &str, at: &str) {
    track(db, &["--metric=events", "--amount", amount, "--at", at]).expect(0);
}

#[tokio::test]
async fn days_come_from_the_ledger_and_from_what_is_kept_by_day() {
    let db = Database::with_acme("enterprise").await;
    let november = [&["events"], &NOVEMBER[..]].concat();
    let day = |day: u32, amount: i64, events: i64| json!({ "day": format!("2026-11-0{day}"), "amount": amount, "events": events });
    let nothing: Vec<Value> = (1..=5).map(|n| day(n, 0, 0)).collect();
    assert_eq!(history(&db, &november), json!(nothing));

    used(&db, "3", "2026-11-02T00:00:00Z");
    used(&db, "4", "2026-11-02T23:59:59.999999Z");
    used(&db, "-1", "2026-11-02T12:00:00Z");
    // In UTC that is the fourth, and these are before and after.
    used(&db, "5", "2026-11-03T22:30:00-02:00");
    used(&db, "7", "2026-10-31T23:59:59Z");
    used(&db, "8", "2026-11-06T00:00:00Z");
    track(&db, &["--metric=participants", "--at", "2026-11-02T12:00:00Z"]).expect(0);
    db.tenantctl(&["tenant", "create", "Beta", "--plan", "enterprise"]).expect(0);
    db.tenantctl(&["usage", "track", "beta", "--metric=events", "--at", "2026-11-02T12:00:00Z"]).expect(0);
    let ledger = json!([day(1, 0, 0), day(2, 6, 3), day(3, 0, 0), day(4, 5, 1), day(5, 0, 0)]);
    assert_eq!(history(&db, &november), ledger);

    // The same where it is kept by day alone, and together with what comes later.
    db.sql(
        "INSERT INTO tenancy.usage_days (tenant_id, metric, day, amount, events)
         SELECT tenant_id, metric, (occurred_at AT TIME ZONE 'UTC')::date, sum(amount), count(*)
           FROM tenancy.usage_events GROUP BY 1, 2, 3;
         DELETE FROM tenancy.usage_events",
    );
    assert_eq!(db.sql("SELECT count(*) FROM tenancy.usage_events"), "0");
    assert_eq!(history(&db, &november), ledger);
    used(&db, "10", "2026-11-04T12:00:00Z");
    assert_eq!(history(&db, &november)[3], day(4, 15, 2));

    // Times mean the days that they are in; a day that only begins is not among them.
    let times = ["events", "--since", "2026-11-02T23:00:00Z", "--until", "2026-11-05T00:00:00Z"];
    assert_eq!(history(&db, &times), json!([day(2, 6, 3), day(3, 0, 0), day(4, 15, 2)]));
    assert_eq!(history(&db, &["events"]).as_array().unwrap().len(), 30, "without a span");
    let today = db.sql("SELECT (now() AT TIME ZONE 'UTC')::date");
    assert_eq!(history(&db, &["events"])[29]["day"], today);

    // The largest, where that is what the metric counts.
    db.sql(
        "UPDATE tenancy.metrics SET kind = 'counter', aggregation = 'max' WHERE key = 'participants';
         UPDATE tenancy.usage_days SET amount = 50 WHERE metric = 'participants'",
    );
    for amount in ["--amount=20", "--amount=30"] {
        track(&db, &["--metric=participants", amount, "--at", "2026-11-02T12:00:00Z"]).expect(0);
        track(&db, &["--metric=participants", amount, "--at", "2026-11-03T12:00:00Z"]).expect(0);
    }
    let participants = history(&db, &[&["participants"], &NOVEMBER[..]].concat());
    assert_eq!(participants[1], day(2, 50, 3));
    assert_eq!(participants[2], day(3, 30, 2));
}

#[tokio::test]
async fn entries_are_shown_newest_first() {
    let db = Database::with_acme("enterprise").await;
    let by_key = ["events", "--by", "key"];
    assert_eq!(history(&db, &by_key), json!([]));
    for n in 1..=3 {
        let (key, at) = (format!("k{n}"), format!("2026-11-0{n}T12:00:00Z"));
        track(&db, &["--metric=events", "--amount", &n.to_string(), "--key", &key, "--at", &at]).expect(0);
    }
    used(&db, "-2", "2026-11-02T13:00:00Z");
    let entries = history(&db, &by_key);
    let mut newest = entries[0].clone();
    assert!(newest["recorded_at"].take().is_string());
    assert_eq!(
        newest,
        json!({ "key": "k3", "amount": 3, "occurred_at": "2026-11-03T12:00:00Z", "recorded_at": null, "used": 6,
                "limit": entries[0]["limit"], "period_start": null })
    );
    let keys = |entries: &Value| -> Vec<Value> {
        entries.as_array().unwrap().iter().map(|entry| entry["key"].clone()).collect()
    };
    assert_eq!(keys(&entries), [json!("k3"), Value::Null, json!("k2"), json!("k1")]);
    let part = [&by_key[..], &["--since", "2026-11-02", "--until", "2026-11-02"]].concat();
    assert_eq!(keys(&history(&db, &part)), [Value::Null, json!("k2")]);
    let part =
        [&by_key[..], &["--since", "2026-11-02T12:00:00Z", "--until", "2026-11-03T12:00:00Z"]].concat();
    assert_eq!(keys(&history(&db, &part)), [Value::Null, json!("k2")]);

    let cut = |limit: &str| {
        db.tenantctl(&["usage", "history", "acme", "--metric=events", "--by=key", "--limit", limit]).expect(0)
    };
    assert_eq!(cut("4").stderr, "");
    let run = cut("3");
    assert!(run.stderr.contains("only the newest 3 entries"), "{run:?}");
    assert_eq!(run.stdout.lines().count(), 4);
    let ids = db.tenantctl(&["usage", "history", "acme", "--metric=events", "--by=key", "-q"]).expect(0);
    assert_eq!(ids.stdout, "k3\nk2\nk1\n");
}

#[tokio::test]
async fn what_is_metered_has_no_entries_and_that_is_said() {
    let db = Database::with_acme("enterprise").await;
    db.sql("CREATE TABLE public.shows (tenant_id uuid)");
    db.tenantctl(&["usage", "meter", "attach", "events", "--table", "shows"]).expect(0);
    db.sql("INSERT INTO public.shows SELECT id FROM tenancy.tenants");
    let run = db.tenantctl(&["usage", "history", "acme", "--metric=events", "--by=key", "-o=json"]).expect(0);
    assert_eq!(run.json(), json!([]));
    assert_eq!(run.stderr, "metered usage has no entries by key: `--by day` shows it\n");
    assert_eq!(history(&db, &["events"])[29]["amount"], 1);
}

#[tokio::test]
async fn a_history_is_drawn_and_what_makes_no_sense_is_refused() {
    let db = Database::with_acme("enterprise").await;
    used(&db, "8", "2026-11-02T12:00:00Z");
    used(&db, "4", "2026-11-04T12:00:00Z");
    let arguments = [&["usage", "history", "acme", "--metric=events"], &NOVEMBER[..]].concat();
    let run = db.tenantctl(&arguments).expect(0);
    assert_eq!(
        run.stdout,
        "DAY         AMOUNT  EVENTS\n2026-11-01  0       0\n2026-11-02  8       1\n2026-11-03  0       0\n\
         2026-11-04  4       1\n2026-11-05  0       0\n"
    );
    assert_eq!(run.stderr, "events of tenant acme: ▁█▁▅▁ at most 8 a day\n");
    let csv = db.tenantctl(&[&arguments[..], &["-o", "csv"]].concat()).expect(0).stdout;
    assert!(csv.starts_with("day,amount,events\n2026-11-01,0,0\n"), "{csv}");

    assert_eq!(db.refused(3, &["usage", "history", "amce", "--metric=events"])["details"]["kind"], "tenant");
    assert_eq!(db.refused(3, &["usage", "history", "acme", "--metric=event"])["details"]["kind"], "metric");
    for bad in [
        &["--metric=admins"][..],
        &["--metric=events", "--limit=3"],
        &["--metric=events", "--by=key", "--limit=0"],
        &["--metric=events", "--since=2026-11-31"],
        &["--metric=events", "--since=2026-11-02", "--until=2026-11-01"],
        &["--metric=events", "--since=0001-01-01"],
        &["--metric=events", "--by=week"],
        &[],
    ] {
        db.refused(2, &[&["usage", "history", "acme"], bad].concat());
    }
    // A full bar says that nothing is left.
    db.tenantctl(&["limit", "set", "acme", "events", "24"]).expect(0);
    let text = db.tenantctl(&["usage", "stats", "acme"]).expect(0).stdout;
    assert!(text.lines().nth(1).unwrap().ends_with("█████░░░░░"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}
