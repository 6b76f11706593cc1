//! Attaching and detaching beside everything else: whoever writes, reports, reserves or changes a table meanwhile, counters
//! say what the tables hold.

use std::sync::Arc;

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::common::{Database, Run};

use super::meter::{EVENTS, attach, held, platform, run, used, with_ids};

async fn execute(db: &Database, session: &mut PgConnection, sql: &str) -> Result<(), String> {
    match sqlx::raw_sql(AssertSqlSafe(with_ids(db, sql))).execute(session).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.as_database_error().and_then(|e| e.code()).expect("a code").into_owned()),
    }
}

fn in_background(db: &Arc<Database>, arguments: &'static [&'static str]) -> JoinHandle<Run> {
    let db = Arc::clone(db);
    spawn_blocking(move || db.tenantctl(arguments))
}

const OLD: &str = "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM tenancy.tenants";
const INSERT: &str = "INSERT INTO public.events (tenant_id, size) VALUES (:acme, 1)";

#[tokio::test]
async fn a_transaction_with_an_older_snapshot_is_never_left_uncounted() {
    let db = platform("enterprise", EVENTS).await;
    let mut old = db.session().await;
    let old = old.connection();
    let failed = Err("40001".to_owned());
    execute(&db, old, OLD).await.unwrap();
    attach(&db, &["events", "--table", "events"]).expect(0);
    assert_eq!(execute(&db, old, INSERT).await, failed, "the first meter");
    execute(&db, old, OLD).await.unwrap();
    attach(&db, &["storage", "--table", "events", "--sum", "size"]).expect(0);
    assert_eq!(execute(&db, old, INSERT).await, failed, "the second");
    execute(&db, old, OLD).await.unwrap();
    db.tenantctl(&["usage", "meter", "detach", "storage"]).expect(0);
    assert_eq!(execute(&db, old, INSERT).await, failed, "one is left");
    execute(&db, old, OLD).await.unwrap();
    execute(&db, old, INSERT).await.unwrap();
    execute(&db, old, "COMMIT").await.unwrap();
    assert_eq!((used(&db, "events"), used(&db, "storage")), ("acme 1".into(), String::new()));
    execute(&db, old, OLD).await.unwrap();
    attach(&db, &["storage", "--table", "events", "--sum", "size"]).expect(0);
    assert_eq!(execute(&db, old, "TRUNCATE public.events").await, failed);

    // Whoever reports by an older snapshot: the counter is touched, and its figure the same.
    db.tenantctl(&["usage", "meter", "detach", "events"]).expect(0);
    execute(&db, old, OLD).await.unwrap();
    attach(&db, &["events", "--table", "events"]).expect(0);
    let track = "SELECT set_config('app.current_tenant_id', :acme, true); SELECT FROM tenancy.track_usage(:acme, 'events')";
    assert_eq!(execute(&db, old, track).await, failed);
    execute(&db, old, "ROLLBACK").await.unwrap();
    assert_eq!(used(&db, "events"), held(&db, "count(*)", "public.events"));

    // And whoever attaches by one.
    execute(&db, old, OLD).await.unwrap();
    let meter = "SELECT tenancy.attach_meter('participants', 'public.events')";
    assert_eq!(execute(&db, old, meter).await, Err("25001".to_owned()));
}

#[tokio::test]
async fn what_is_reported_or_reserved_meanwhile_makes_way() {
    let db = Arc::new(platform("enterprise", EVENTS).await);
    run(&db, "INSERT INTO public.events (tenant_id) SELECT :acme FROM generate_series(1, 10)");
    let reserve = ["usage", "reserve", "acme", "--metric", "events", "--amount", "5"];
    let reserved = db.json(&reserve)["reservation"].as_str().unwrap().to_owned();
    // One who is reporting is waited for.
    let mut reporter = db.session().await;
    let reporter = reporter.connection();
    let track = "BEGIN; SELECT set_config('app.current_tenant_id', :acme, true);
                 SELECT FROM tenancy.track_usage(:acme, 'events', 3)";
    execute(&db, reporter, track).await.unwrap();
    let attaching = in_background(&db, &["usage", "meter", "attach", "events", "--table", "events"]);
    db.blocked(1).await;
    execute(&db, reporter, "COMMIT").await.unwrap();
    attaching.await.unwrap().expect(0);
    assert_eq!(used(&db, "events"), "acme 10");
    assert_eq!(db.sql("SELECT state FROM tenancy.usage_reservations"), "released");
    let error = db.refused(4, &["usage", "commit", "acme", &reserved]);
    assert!(error["message"].as_str().unwrap().contains("released"), "{error}");
    db.tenantctl(&["usage", "release", "acme", &reserved]);
    assert_eq!(used(&db, "events"), "acme 10");
    assert_eq!(db.json(&["usage", "reconcile"]), json!([]), "and the history says the same");

    // A counter by the month begins with what comes, and keeps what was reported, without what was only reserved.
    db.sql("INSERT INTO tenancy.metrics (key, name, unit, kind, reset) VALUES ('month', 'Month', 'count', 'counter', 'monthly')");
    db.tenantctl(&["usage", "track", "acme", "--metric", "month", "--amount", "2"]).expect(0);
    db.json(&["usage", "reserve", "acme", "--metric", "month", "--amount", "5"]);
    attach(&db, &["month", "--table", "events"]).expect(0);
    assert_eq!(used(&db, "month"), "acme 2");
    assert_eq!(db.json(&["usage", "reconcile"]), json!([]));
}

#[tokio::test]
async fn applying_a_catalogue_meanwhile_does_not_unmake_a_meter() {
    let db = Arc::new(platform("enterprise", EVENTS).await);
    let file = std::env::temp_dir().join(format!("{}_{}.yaml", db.name, std::process::id()));
    std::fs::write(&file, "metrics:\n  - { key: events, name: All events, unit: count, kind: gauge }\n")
        .unwrap();
    let mut attaching = db.session().await;
    let attaching = attaching.connection();
    execute(&db, attaching, "BEGIN; SELECT tenancy.attach_meter('events', 'public.events')").await.unwrap();
    let applying = {
        let (db, file) = (Arc::clone(&db), file.clone());
        spawn_blocking(move || db.tenantctl(&["plan", "apply", "-f", file.to_str().unwrap()]))
    };
    db.blocked(1).await;
    execute(&db, attaching, "COMMIT").await.unwrap();
    applying.await.unwrap().expect(0);
    assert_eq!(db.sql("SELECT name, source FROM tenancy.metrics WHERE key = 'events'"), "All events|meter");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn two_tables_attached_at_once_are_both_counted_whole() {
    let db = Arc::new(platform("enterprise", EVENTS).await);
    db.sql("CREATE TABLE public.others (tenant_id uuid)");
    let (mut one, mut two) = (db.session().await, db.session().await);
    let (one, two) = (one.connection(), two.connection());
    let other = "BEGIN; INSERT INTO public.others VALUES (:acme)";
    execute(&db, one, other).await.unwrap();
    let others = in_background(&db, &["usage", "meter", "attach", "events", "--table", "others"]);
    db.blocked(1).await;
    attach(&db, &["events", "--table", "events"]).expect(0);
    // The other one read which tables there are before this one was attached, and this row is not to be seen yet.
    execute(&db, two, &format!("BEGIN; {INSERT}")).await.unwrap();
    execute(&db, one, "COMMIT").await.unwrap();
    db.blocked(1).await;
    execute(&db, two, "COMMIT").await.unwrap();
    others.await.unwrap().expect(0);
    assert_eq!(used(&db, "events"), "acme 2");
}

#[tokio::test]
async fn whoever_writes_to_a_metered_table_does_not_lose_to_an_attach() {
    let db = Arc::new(platform("enterprise", EVENTS).await);
    attach(&db, &["events", "--table", "events"]).expect(0);
    let mut writer = db.session().await;
    let writer = writer.connection();
    execute(&db, writer, "BEGIN; INSERT INTO public.events (size) VALUES (1)").await.unwrap();
    let attaching =
        in_background(&db, &["usage", "meter", "attach", "storage", "--table", "events", "--sum", "size"]);
    db.blocked(1).await;
    // The tenant's first counter, for which limits are read that an attach keeps from changing.
    execute(&db, writer, INSERT).await.unwrap();
    execute(&db, writer, "COMMIT").await.unwrap();
    attaching.await.unwrap().expect(0);
    assert_eq!((used(&db, "events"), used(&db, "storage")), ("acme 1".into(), "acme 1".into()));
}

#[tokio::test]
async fn parts_that_come_and_go_are_counted_once_and_detached() {
    let table = "CREATE TABLE public.logs (id int, tenant_id uuid, at int) PARTITION BY LIST (at);
        CREATE TABLE public.logs_1 PARTITION OF public.logs FOR VALUES IN (1);
        CREATE TABLE public.logs_2 (id int, tenant_id uuid, at int);
        CREATE TABLE public.pa (id int, tenant_id uuid); CREATE TABLE public.pb (id int, tenant_id uuid);
        CREATE TABLE public.ch () INHERITS (public.pa)";
    let db = platform("enterprise", table).await;
    let state = |n: usize| db.json(&["usage", "meter", "list", "events"])[n]["state"].clone();
    // A metered table that becomes a partition of another one.
    attach(&db, &["events", "--table", "logs"]).expect(0);
    attach(&db, &["events", "--table", "logs_2"]).expect(0);
    run(&db, "INSERT INTO public.logs_2 VALUES (1, :acme, 2)");
    db.sql("ALTER TABLE public.logs ATTACH PARTITION public.logs_2 FOR VALUES IN (2)");
    assert_eq!((state(0), state(1)), (json!("counting"), json!("incomplete")));
    run(&db, "INSERT INTO public.logs_2 VALUES (2, :acme, 2); INSERT INTO public.logs VALUES (3, :acme, 2)");
    assert_eq!(used(&db, "events"), "acme 3");
    let error = db.refused(10, &["usage", "meter", "attach", "events", "--table", "logs"]);
    assert_eq!(error["hint"], "`tenantctl usage meter detach events --table 'public.logs_2'` first");
    db.tenantctl(&["usage", "meter", "detach", "events", "--table", "logs_2"]).expect(0);
    attach(&db, &["events", "--table", "logs"]).expect(0);
    run(&db, "INSERT INTO public.logs_2 VALUES (4, :acme, 2); DELETE FROM public.logs WHERE id = 1");
    assert_eq!(used(&db, "events"), held(&db, "count(*)", "public.logs"));

    // One that came later has no triggers; one that left has.
    db.sql("CREATE TABLE public.logs_3 PARTITION OF public.logs FOR VALUES IN (3); ALTER TABLE public.logs DETACH PARTITION public.logs_1");
    run(&db, "INSERT INTO public.logs_1 VALUES (5, :acme, 1)");
    db.tenantctl(&["usage", "meter", "detach", "events"]).expect(0);
    assert_eq!(db.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tenancy%'"), "0");

    // Of an inheritance parent alone nobody can tell how much goes.
    attach(&db, &["events", "--table", "pa"]).expect(0);
    run(&db, "INSERT INTO public.pa VALUES (1, :acme); INSERT INTO public.ch VALUES (2, :acme)");
    for truncate in ["TRUNCATE ONLY public.pa", "TRUNCATE public.pa"] {
        let refused = db.psql(&["--command", truncate]);
        assert!(refused.code != 0 && refused.stderr.contains("DELETE its rows"), "{refused:?}");
    }
    assert_eq!(used(&db, "events"), held(&db, "count(*)", "public.pa"));
    // A child of two is counted by neither.
    db.sql("ALTER TABLE public.ch INHERIT public.pb");
    assert_eq!(state(0), "incomplete");
    for table in ["pa", "pb"] {
        let error = db.refused(2, &["usage", "meter", "attach", "events", "--table", table]);
        assert!(
            error["hint"].as_str().unwrap().starts_with("ALTER TABLE public.ch NO INHERIT public.p"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_counter_that_never_resets_counts_no_row_twice() {
    let db = platform("enterprise", EVENTS).await;
    db.sql(
        "CREATE TABLE public.others (tenant_id uuid);
         INSERT INTO tenancy.metrics (key, name, unit, kind, reset) VALUES ('made', 'Made', 'count', 'counter', 'never')",
    );
    run(
        &db,
        "INSERT INTO public.events (tenant_id) VALUES (:acme), (:acme); INSERT INTO public.others VALUES (:acme)",
    );
    attach(&db, &["made", "--table", "events"]).expect(0);
    attach(&db, &["made", "--table", "others"]).expect(0);
    assert_eq!(used(&db, "made"), "acme 3");
    db.tenantctl(&["usage", "meter", "detach", "made", "--table", "events"]).expect(0);
    let error = db.refused(10, &["usage", "meter", "attach", "made", "--table", "events"]);
    assert!(error["hint"].as_str().unwrap().contains("usage meter detach made"), "{error}");
    assert_eq!(used(&db, "made"), "acme 3");
    db.tenantctl(&["usage", "meter", "detach", "made"]).expect(0);
    attach(&db, &["made", "--table", "events"]).expect(0);
    attach(&db, &["made", "--table", "others"]).expect(0);
    assert_eq!(used(&db, "made"), "acme 3");
}
