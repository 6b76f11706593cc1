//! `plan apply`: what a file adds and changes, what it leaves alone, and what it may not do.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::{Database, Run, root};

fn apply(db: &Database, yaml: &str, more: &[&str]) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plans.yaml");
    std::fs::write(&file, yaml).unwrap();
    db.tenantctl(&[&["plan", "apply", "-o", "json", "-f", file.to_str().unwrap()], more].concat())
}

fn outcomes(run: Run) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    run.json().as_array().unwrap().iter().map(|one| (text(&one["key"]), text(&one["outcome"]))).collect()
}

fn track(db: &Database, metric: &str, amount: &str) -> Run {
    db.tenantctl(&["usage", "track", "acme", "-o", "json", "--metric", metric, &format!("--amount={amount}")])
}

const CALLS: &str = "
metrics:
  - {key: api_calls, name: API calls, unit: count, kind: counter, reset: monthly, anchor_day: 31, default: {limit: 2, soft: true}}
  - {key: peak_storage, name: Peak, unit: bytes, kind: counter, reset: daily, aggregation: max, default: 1GB}
features:
  - {key: exports, name: Exports}
plans:
  - key: free
    name: Free
    limits: {events: 2, storage: 2GB, participants: {limit: 60, soft: true}}
    features: [exports]
  - {key: giant, name: Giant, limits: {events: unlimited, api_calls: 7}, features: [basic_events]}
";

#[tokio::test]
async fn a_file_adds_and_changes_and_leaves_the_rest_alone() {
    let db = Database::with_acme("free").await;
    track(&db, "events", "1").expect(0);
    track(&db, "events", "1").expect(6);
    let before = db.dump();
    let expected = |changed: &str| {
        [
            ("api_calls", "created"),
            ("peak_storage", "created"),
            ("exports", "created"),
            ("free", changed),
            ("giant", "created"),
        ]
        .map(|(key, outcome)| (key.to_owned(), outcome.to_owned()))
    };
    let dry = apply(&db, CALLS, &["--dry-run"]).expect(0);
    assert_eq!(dry.stderr, "would create 4, would update 1, 0 unchanged\n");
    assert_eq!(outcomes(dry), expected("updated"));
    assert_eq!(db.dump(), before);

    let done = apply(&db, CALLS, &[]).expect(0);
    assert_eq!(
        done.json()[3]["changes"],
        json!([
            "limit of events 2, was 1",
            "limit of participants 60 (soft), was 50",
            "limit of storage 2GB, was 1GB",
            "feature exports"
        ])
    );
    assert_eq!(outcomes(done), expected("updated"));
    // The counter that was there has the new limit, a metric of YAML alone can be tracked at once.
    track(&db, "events", "1").expect(0);
    track(&db, "events", "1").expect(6);
    assert_eq!(track(&db, "participants", "61").expect(0).json()["outcome"], "over_soft_limit");
    assert_eq!(track(&db, "api_calls", "2").expect(0).json()["outcome"], "accepted");
    assert_eq!(track(&db, "api_calls", "1").expect(0).json()["outcome"], "over_soft_limit");
    assert_eq!(track(&db, "peak_storage", "512MB").expect(0).json()["used"], 512 << 20);
    assert_eq!(track(&db, "peak_storage", "1GB").expect(0).json()["used"], 1 << 30);
    track(&db, "peak_storage", "1025MB").expect(6);
    let stats = db.json(&["usage", "stats", "acme"]);
    let sources: Vec<_> = stats.as_array().unwrap().iter().map(|s| s["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["plan", "plan", "plan", "plan", "default", "default"]);

    let free = db.json(&["plan", "show", "free"]);
    assert_eq!(free["features"], json!(["basic_events", "team_formation", "exports"]));
    let limits: Vec<_> = free["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (l["metric"].as_str().unwrap(), &l["limit"], &l["soft"]))
        .collect();
    assert_eq!(limits[3], ("admins", &json!(1), &json!(false)), "what the file leaves out stays");
    assert_eq!(limits[1], ("participants", &json!(60), &json!(true)));
    assert!(db.tenantctl(&["plan", "show", "free"]).stdout.contains("participants 60 (soft)"));
    assert_eq!(
        db.tenantctl(&["plan", "list", "-q"]).stdout,
        "free\nstarter\nprofessional\nenterprise\ngiant\n"
    );
    assert_eq!(
        db.json(&["metric", "list"])[4],
        json!({ "key": "api_calls", "name": "API calls", "unit": "count", "kind": "counter", "reset": "monthly",
                "aggregation": "sum", "source": "reported", "default": 2, "soft": true, "anchor_day": 31 })
    );
    assert_eq!(
        db.tenantctl(&["metric", "list", "-q"]).stdout,
        "events\nparticipants\nstorage\nadmins\napi_calls\npeak_storage\n"
    );
    let listed = db.tenantctl(&["metric", "list"]).stdout;
    assert!(listed.contains("monthly, on day 31") && listed.contains("2 (soft)"), "{listed}");
    assert!(
        listed.contains("1GB") && listed.contains("unlimited") && listed.contains("memberships"),
        "{listed}"
    );
    assert_eq!(
        db.sql("SELECT string_agg(action || ' ' || (details->>'key'), ', ' ORDER BY id) FROM tenancy.audit_log WHERE tenant_id IS NULL"),
        "metric.create api_calls, metric.create peak_storage, feature.create exports, plan.update free, plan.create giant"
    );

    // Again: nothing.
    let before = db.dump();
    let again = apply(&db, CALLS, &[]).expect(0);
    assert_eq!(again.stderr, "created 0, updated 0, 5 unchanged\n");
    assert!(outcomes(again).iter().all(|(_, outcome)| outcome == "unchanged"));
    let defaults = std::fs::read_to_string(root().join("sql/plan/catalogue.yaml")).unwrap();
    let back = outcomes(apply(&db, &defaults, &[]).expect(0));
    let updated: Vec<_> = back.iter().filter(|(_, outcome)| outcome != "unchanged").collect();
    assert_eq!(updated, [&("free".to_owned(), "updated".to_owned())]);
    apply(&db, CALLS, &[]).expect(0);
    let same = |dump: &str| {
        dump.lines().filter(|line| !line.starts_with("audit_log")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(same(&db.dump()), same(&before));
    // Less than is used is a limit like any other, and said.
    let lower = "plans: [{key: free, name: Free, limits: {events: 1}}]";
    let run = apply(&db, lower, &[]).expect(0);
    assert_eq!(run.json()[0]["tenants_over"], 1);
    assert_eq!(
        run.stderr,
        "created 0, updated 1, 0 unchanged\n1 tenant of plan free uses more than a limit allows: nothing more of it is admitted\n"
    );
    track(&db, "events", "1").expect(6);
    db.tenantctl(&["limit", "set", "acme", "events", "2"]).expect(0);
    assert_eq!(apply(&db, CALLS, &[]).expect(0).json()[3]["tenants_over"], 0);
    assert_eq!(apply(&db, lower, &[]).expect(0).json()[0]["tenants_over"], 0, "it has a limit of its own");
    // A default that changes reaches the counters, too; what a definition does not say stays as it is.
    let default = "metrics: [{key: api_calls, name: API calls, unit: count, kind: counter, default: 3}]";
    let changed = apply(&db, default, &[]).expect(0).json();
    assert_eq!(changed[0]["changes"], json!(["default 3, was 2 (soft)"]));
    let over = track(&db, "api_calls", "1").expect(6).json();
    assert_eq!((&over["limit"], &over["used"]), (&json!(3), &json!(3)));
}

#[tokio::test]
async fn what_would_falsify_the_figures_is_refused() {
    let db = Database::with_acme("free").await;
    apply(&db, CALLS, &[]).expect(0);
    track(&db, "events", "1").expect(0);
    track(&db, "api_calls", "1").expect(0);
    let before = db.dump();
    for (metric, said) in [
        ("{key: events, name: Events, unit: bytes, kind: gauge}", "unit bytes, was count"),
        ("{key: events, name: Events, unit: count, kind: counter}", "kind counter, was gauge"),
        ("{key: api_calls, name: A, unit: count, kind: counter, reset: daily}", "reset daily, was monthly"),
        (
            "{key: api_calls, name: A, unit: count, kind: counter, aggregation: max}",
            "aggregation max, was sum",
        ),
    ] {
        let error = apply(&db, &format!("metrics: [{metric}]"), &[]).expect(10).error();
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
    db.tenantctl(&["user", "add", "acme", "a@acme.org", "--role", "admin"]).expect(0);
    let before_source = db.dump();
    let admins = "metrics: [{key: admins, name: Admins, unit: count, kind: gauge, source: reported}]";
    apply(&db, admins, &[]).expect(10);
    assert_eq!(db.dump(), before_source);
    assert_ne!(before, before_source);
    // Where nothing is counted yet, all may change.
    let storage = "metrics: [{key: storage, name: Storage, unit: bytes, kind: counter, reset: daily}]";
    assert_eq!(apply(&db, storage, &[]).expect(0).json()[0]["changes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_mistake_in_the_file_is_named_and_nothing_is_changed() {
    let db = Database::migrated().await;
    let before = db.dump();
    for (yaml, said) in [
        ("plans:\n  - key: free\n    name: Free\n    limit: {events: 1}", "unknown field `limit`"),
        ("metrics:\n  - {key: a, name: A, unit: count, kind: gauge, resets: daily}", "line 2"),
        ("metrics:\n  - {key: a, name: A, unit: meters, kind: gauge}", "line 2"),
        ("metrics:\n  - {key: a, name: A, unit: count, kind: gage}", "line 2"),
        (
            "metrics:\n\n  - {key: a, name: A, unit: count, kind: counter, reset: monthly, anchor_day: 32}",
            "line 3",
        ),
        ("plan: []", "unknown field `plan`"),
        ("- x", "invalid type"),
        ("plans: [{key: free, name: Free, limits: {event: 1}}]", "limit of event: there is no such metric"),
        (
            "plans: [{key: free, name: Free, limits: {events: 1GB}}]",
            "limit of events: it is not a whole number",
        ),
        ("plans: [{key: free, name: Free, limits: {events: -1}}]", "a limit cannot be negative"),
        (
            "plans: [{key: free, name: Free, limits: {events: 9223372036854775808}}]",
            "larger than a 64-bit number",
        ),
        (
            "plans: [{key: free, name: Free, limits: {events: {limit: unlimited, soft: true}}}]",
            "nothing to be soft",
        ),
        ("plans: [{key: free, name: Free, features: [fly]}]", "there is no feature fly"),
        ("plans: [{key: \"a'; --\", name: A}]", "a key is lower case"),
        ("plans: [{key: Free, name: A}]", "a key is lower case"),
        ("plans: [{key: a, name: ' '}]", "its name is empty"),
        ("features: [{key: a, name: A}, {key: a, name: B}]", "feature a is there twice"),
        ("metrics: [{key: a, name: A, unit: count, kind: gauge, reset: daily}]", "a gauge is never reset"),
        ("metrics: [{key: a, name: A, unit: count, kind: gauge, aggregation: max}]", "only a counter"),
        ("metrics: [{key: a, name: A, unit: count, kind: counter, anchor_day: 3}]", "only a monthly metric"),
        ("metrics: [{key: a, name: A, unit: count, kind: gauge, source: memberships}]", "only admins"),
    ] {
        let run = apply(&db, yaml, &[]).expect(2);
        assert_eq!(run.stdout, "");
        let error = run.error();
        assert!(error["message"].as_str().unwrap().contains(said), "{yaml}: {error}");
    }
    let error = db.refused(2, &["plan", "apply", "-f", "/nonexistent/plans.yaml"]);
    assert!(error["message"].as_str().unwrap().contains("/nonexistent/plans.yaml"), "{error}");
    db.tenantctl(&["plan", "apply"]).expect(2);
    assert_eq!(db.dump(), before);
}

#[tokio::test]
async fn standard_input_is_a_file() {
    use std::io::Write;
    let db = Database::migrated().await;
    let mut command = db.command();
    command.args(["plan", "apply", "-f", "-", "-o", "json"]);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all("features: [{key: a, name: Ünï'c; --}]".as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        value,
        json!([{ "kind": "feature", "key": "a", "outcome": "created", "changes": [],
                               "tenants_over": null }])
    );
    assert_eq!(db.sql("SELECT name FROM tenancy.features WHERE key = 'a'"), "Ünï'c; --");
}

/// Files that raise and lower a limit while tenants use it for the first time and again.
#[tokio::test]
async fn counters_of_every_tenant_follow_a_plan_while_usage_goes_on() {
    let db = Arc::new(Database::migrated().await);
    let slugs: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
    for slug in &slugs {
        db.tenantctl(&["tenant", "create", slug]).expect(0);
    }
    let trackers: Vec<_> = slugs
        .into_iter()
        .map(|slug| {
            let db = Arc::clone(&db);
            std::thread::spawn(move || {
                for _ in 0..5 {
                    let run = db.tenantctl(&["usage", "track", &slug, "--metric", "events"]);
                    assert!(matches!(run.code, 0 | 6), "{run:?}");
                }
            })
        })
        .collect();
    for limit in [4, 1, 3] {
        apply(&db, &format!("plans: [{{key: free, name: Free, limits: {{events: {limit}}}}}]"), &[])
            .expect(0);
    }
    for tracker in trackers {
        tracker.join().unwrap();
    }
    assert_eq!(
        db.sql("SELECT count(*), count(*) FILTER (WHERE limit_value = 3), max(used) <= 4 FROM tenancy.usage_counters"),
        "6|6|t"
    );
}
