//! Whether counters hold what they should: planted drift of each kind is found, put right, and gone.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::common::{Database, Run};

fn reconcile(db: &Database, code: i32, arguments: &[&str]) -> Value {
    db.tenantctl(&[&["usage", "reconcile", "-o", "json"], arguments].concat()).expect(code).json()
}

/// A platform with something counted of every kind, and nothing wrong.
async fn platform() -> Database {
    let db = Database::with_acme("enterprise").await;
    db.tenantctl(&["tenant", "create", "Beta", "--plan", "enterprise"]).expect(0);
    db.sql(
        "CREATE TABLE public.files (id int, tenant_id uuid, size int);
         INSERT INTO tenancy.metrics (key, name, unit, kind, reset, aggregation) VALUES
            ('peak', 'Peak', 'count', 'counter', 'never', 'max'), ('calls', 'Calls', 'count', 'counter', 'monthly', 'sum'),
            ('written', 'Written', 'bytes', 'counter', 'daily', 'sum')",
    );
    for metric in ["storage", "written"] {
        db.tenantctl(&["usage", "meter", "attach", metric, "--table", "files", "--sum", "size"]).expect(0);
    }
    db.sql("INSERT INTO public.files SELECT n, id, n FROM tenancy.tenants, generate_series(1, 4) n; DELETE FROM public.files WHERE id = 4");
    for (metric, amount) in
        [("events", "5"), ("events", "-2"), ("peak", "7"), ("peak", "4"), ("calls", "6"), ("calls", "2")]
    {
        db.tenantctl(&["usage", "track", "acme", "--metric", metric, &format!("--amount={amount}")])
            .expect(0);
    }
    for user in ["a@acme.org", "b@acme.org"] {
        db.tenantctl(&["user", "add", "acme", user, "--role", "admin"]).expect(0);
    }
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
    db
}

/// Counters that the history does not add up to, whatever reconcile thinks of it.
fn unexplained(db: &Database) -> String {
    db.sql(
        "SELECT string_agg(c.metric || ' ' || c.used || ' ' || r.amount, ', ') FROM tenancy.usage_counters c
           JOIN tenancy.usage_recorded(NULL, NULL) r USING (tenant_id, metric, period_start)
          WHERE c.metric <> 'admins' AND c.used <> r.amount",
    )
}

#[tokio::test]
async fn planted_drift_is_found_and_put_right() {
    let db = platform().await;
    db.sql("UPDATE tenancy.usage_counters SET used = used + 3 WHERE tenant_id IN (SELECT id FROM tenancy.tenants WHERE slug = 'acme')");
    // Around the triggers: beta has more than was counted.
    db.sql("SET session_replication_role = replica; INSERT INTO public.files SELECT 9, id, 100 FROM tenancy.tenants WHERE slug = 'beta'");
    let found = reconcile(&db, 5, &[]);
    let brief = |found: &Value| {
        let fields = ["tenant", "metric", "counted", "actual", "drift", "basis"];
        let line = |drift: &Value| fields.map(|field| drift[field].to_string().replace('"', "")).join(" ");
        let mut lines: Vec<_> = found.as_array().unwrap().iter().map(line).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        brief(&found),
        [
            "acme admins 5 2 3 memberships",
            "acme calls 11 8 3 history",
            "acme events 6 3 3 history",
            "acme peak 10 7 3 history",
            "acme storage 9 6 3 tables",
            "acme written 13 10 3 history",
            "beta storage 6 106 -100 tables",
        ]
    );
    let calls = found.as_array().unwrap().iter().find(|drift| drift["metric"] == "calls").unwrap();
    assert_eq!(
        calls["period_start"],
        db.sql("SELECT to_char(date_trunc('month', now(), 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
    );
    let table = db.tenantctl(&["usage", "reconcile", "--detect"]).expect(5);
    assert!(table.stdout.contains("-100") && table.stderr.contains("7 counters drifted"), "{table:?}");
    assert_eq!(brief(&reconcile(&db, 5, &["beta"])), ["beta storage 6 106 -100 tables"]);
    assert_eq!(brief(&reconcile(&db, 5, &["acme", "--metric", "peak"])), ["acme peak 10 7 3 history"]);
    assert_eq!(reconcile(&db, 0, &["beta", "--metric", "events"]), json!([]));
    db.refused(3, &["usage", "reconcile", "gamma"]);
    db.refused(3, &["usage", "reconcile", "--metric", "evnts"]);
    db.tenantctl(&["usage", "reconcile", "--detect", "--repair"]).expect(2);

    let before = db.dump();
    let dry = db.tenantctl(&["usage", "reconcile", "--repair", "--dry-run", "-o", "json"]).expect(0);
    assert_eq!((dry.json(), dry.stderr.as_str()), (found.clone(), "would repair 7 counters\n"));
    assert_eq!(db.dump(), before);
    assert_eq!(brief(&reconcile(&db, 0, &["--repair", "--metric", "peak"])), ["acme peak 10 7 3 history"]);
    assert_eq!(reconcile(&db, 0, &["--repair"]).as_array().unwrap().len(), 6);
    let after = db.dump();
    assert_eq!(reconcile(&db, 0, &["--repair"]), json!([]));
    assert_eq!((reconcile(&db, 0, &[]), db.dump()), (json!([]), after));
    assert_eq!(unexplained(&db), "");
    assert_eq!(
        db.sql(
            "SELECT string_agg(concat_ws(' ', slug, metric, amount, before, after, reason), ', ' ORDER BY slug, metric)
               FROM tenancy.usage_corrections c JOIN tenancy.tenants t ON t.id = tenant_id WHERE actor = session_user"
        ),
        "acme admins -3 5 2 reconciled with memberships, acme calls 0 11 8 reconciled with history, \
         acme events 0 6 3 reconciled with history, acme peak 0 10 7 reconciled with history, \
         acme storage 0 9 6 reconciled with tables, acme written 0 13 10 reconciled with history, \
         beta storage 100 6 106 reconciled with tables"
    );
    assert_eq!(
        db.sql("SELECT count(*), count(tenant_id) FROM tenancy.audit_log WHERE action = 'usage.repair'"),
        "7|7"
    );
    // And all goes on from there.
    db.tenantctl(&["usage", "track", "acme", "--metric", "events"]).expect(0);
    db.sql("DELETE FROM public.files WHERE id = 9");
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
}

#[tokio::test]
async fn a_history_counts_whether_pruned_detached_or_without_its_counter() {
    let db = platform().await;
    // What leaves the ledger stays in the days.
    db.sql(
        "INSERT INTO tenancy.usage_days (tenant_id, metric, day, amount, events)
         SELECT e.tenant_id, e.metric, (e.occurred_at AT TIME ZONE 'UTC')::date,
                CASE m.aggregation WHEN 'max' THEN max(e.amount) ELSE sum(e.amount) END, count(*)
           FROM tenancy.usage_events e JOIN tenancy.metrics m ON m.key = e.metric GROUP BY 1, 2, 3, m.aggregation;
         DELETE FROM tenancy.usage_events",
    );
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
    db.tenantctl(&["usage", "track", "acme", "--metric", "calls"]).expect(0);
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
    // Days outside of the period are none of it.
    db.sql(
        "INSERT INTO tenancy.usage_days SELECT id, 'calls', date_trunc('month', now(), 'UTC')::date - 1, 99, 1
           FROM tenancy.tenants WHERE slug = 'acme'",
    );
    assert_eq!(reconcile(&db, 0, &[]), json!([]));

    // Once nothing meters it, the history alone says it.
    db.tenantctl(&["usage", "meter", "detach", "storage"]).expect(0);
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
    db.sql("UPDATE tenancy.usage_counters SET used = 1 WHERE metric = 'storage'");
    assert_eq!(reconcile(&db, 5, &["acme"])[0]["basis"], "history");
    reconcile(&db, 0, &["--repair"]);
    assert_eq!(
        db.sql("SELECT string_agg(used::text, ' ') FROM tenancy.usage_counters WHERE metric = 'storage'"),
        "6 6"
    );

    // A counter that is lost is found again.
    db.sql("DELETE FROM tenancy.usage_counters WHERE metric IN ('calls', 'admins')");
    db.tenantctl(&["usage", "track", "beta", "--metric", "calls"]).expect(0);
    let found = reconcile(&db, 5, &["acme", "--metric", "admins"]);
    assert_eq!((&found[0]["counted"], &found[0]["actual"]), (&json!(0), &json!(2)));
    reconcile(&db, 0, &["--repair"]);
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
    assert_eq!(db.sql("SELECT used FROM tenancy.usage_counters WHERE metric = 'admins'"), "2");

    // What cannot be told is said, and not made up.
    db.tenantctl(&["usage", "meter", "attach", "storage", "--table", "files", "--sum", "size"]).expect(0);
    db.sql("DROP TABLE public.files; UPDATE tenancy.tenants SET anchor_day = 15 WHERE slug = 'acme'");
    let run = db.tenantctl(&["usage", "reconcile"]).expect(5);
    assert!(
        run.stderr.contains("not comparable: 2 counters of storage: the tables that were metered are gone"),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("not comparable: 1 counters of calls: the day that its periods begin on"),
        "{run:?}"
    );
    // Who changes the day has nothing to mend.
    db.tenantctl(&["usage", "meter", "detach", "storage"]).expect(0);
    let run = db.tenantctl(&["usage", "reconcile"]).expect(0);
    assert!(run.stderr.starts_with("every counter that can be compared holds what it should\n"), "{run:?}");
    assert!(run.stderr.contains("not comparable: 1 counters of calls"), "{run:?}");
}

#[tokio::test]
async fn a_meter_that_cannot_be_read_stands_in_the_way_of_no_other() {
    let db = platform().await;
    db.sql(r#"CREATE TABLE public."No'tes" (tenant_id text)"#);
    db.tenantctl(&["usage", "meter", "attach", "participants", "--table", r#""No'tes""#]).expect(0);
    db.sql(
        r#"INSERT INTO public."No'tes" SELECT id FROM tenancy.tenants WHERE slug = 'acme';
           SET session_replication_role = replica;
           INSERT INTO public."No'tes" VALUES ('nobody');
           ALTER TABLE public.files RENAME size TO bytes;
           UPDATE tenancy.usage_counters SET used = used + 3 WHERE metric IN ('events', 'storage', 'participants')"#,
    );
    let run = db.tenantctl(&["usage", "reconcile", "-o", "json"]).expect(5);
    let found = run.json();
    assert_eq!(
        (found.as_array().unwrap().len(), &found[0]["metric"], &found[0]["drift"]),
        (1, &json!("events"), &json!(3))
    );
    let storage = "not comparable: 2 counters of storage from public.files: ";
    let participants = r#"not comparable: 1 counters of participants from public."No'tes": "#;
    let line = |run: &Run, start: &str| {
        run.stderr.lines().find_map(|line| line.strip_prefix(start).map(str::to_owned)).unwrap_or_default()
    };
    assert!(!line(&run, storage).is_empty(), "{run:?}");
    assert!(line(&run, participants).contains("nobody"), "{run:?}");
    // Of a tenant, its own counters.
    let run = db.tenantctl(&["usage", "reconcile", "beta"]).expect(5);
    assert!(run.stderr.contains("not comparable: 1 counters of storage from public.files"), "{run:?}");
    assert!(run.stderr.contains("not comparable: 0 counters of participants"), "{run:?}");

    // What can be put right is; what cannot is left as it is, and still fails.
    let run = db.tenantctl(&["usage", "reconcile", "--repair", "-o", "json"]).expect(5);
    assert_eq!(run.json(), found);
    assert!(!line(&run, storage).is_empty() && !line(&run, participants).is_empty(), "{run:?}");
    assert_eq!(
        db.sql(
            "SELECT string_agg(metric || ' ' || used, ', ' ORDER BY metric) FROM tenancy.usage_counters
              WHERE metric IN ('events', 'storage', 'participants')
                AND tenant_id = (SELECT id FROM tenancy.tenants WHERE slug = 'acme')"
        ),
        "events 3, participants 4, storage 9"
    );
    assert_eq!(reconcile(&db, 0, &["--metric", "events"]), json!([]));
    reconcile(&db, 5, &["--metric", "storage"]);

    // Once they are mended, they compare again.
    db.sql(
        r#"ALTER TABLE public.files RENAME bytes TO size;
           SET session_replication_role = replica;
           DELETE FROM public."No'tes" WHERE tenant_id = 'nobody'"#,
    );
    assert_eq!(reconcile(&db, 0, &["--repair"]).as_array().unwrap().len(), 3);
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
    // Who may not read a table is told so, and not that the table is at fault.
    let reader = format!("{}_reader", db.name);
    db.sql(&format!("CREATE ROLE {reader} LOGIN PASSWORD 'right' IN ROLE tenancy_owner"));
    let mut command = db.command();
    command.env("TENANTCTL_URL", db.url().replace("user=postgres", &format!("user={reader}")));
    command.env("PGPASSWORD", "right");
    let run = crate::common::run(command.args(["usage", "reconcile", "-o", "json"])).expect(8);
    assert_eq!(run.stdout, "", "{run:?}");
}

#[tokio::test]
async fn what_no_counter_can_hold_is_counted_as_far_as_one_does() {
    let db = Database::with_acme("enterprise").await;
    db.sql("CREATE TABLE public.huge (tenant_id uuid, size bigint)");
    db.tenantctl(&["usage", "meter", "attach", "storage", "--table", "huge", "--sum", "size"]).expect(0);
    db.sql(
        "SET session_replication_role = replica;
         INSERT INTO public.huge SELECT id, 9223372036854775807 FROM tenancy.tenants, generate_series(1, 2)",
    );
    let found = reconcile(&db, 5, &[]);
    assert_eq!(
        (found.as_array().unwrap().len(), &found[0]["counted"], &found[0]["actual"]),
        (1, &json!(0), &json!(i64::MAX))
    );
    assert_eq!(reconcile(&db, 0, &["--repair"]), found);
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
    db.sql("SET session_replication_role = replica; TRUNCATE public.huge");
    assert_eq!(reconcile(&db, 0, &["--repair"])[0]["actual"], json!(0));
    assert_eq!((unexplained(&db), reconcile(&db, 0, &[])), (String::new(), json!([])));
}

#[tokio::test]
async fn days_are_those_of_utc_whatever_the_session_says() {
    let db = Database::with_acme("enterprise").await;
    // In Berlin the day on which the clocks go forward has 23 hours.
    let recorded = db.sql(
        "INSERT INTO tenancy.metrics (key, name, unit, kind, reset, aggregation) VALUES ('sent', 'Sent', 'count', 'counter', 'daily', 'sum');
         INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start, used)
         SELECT id, 'sent', '2026-03-29 00:00Z', 7 FROM tenancy.tenants;
         INSERT INTO tenancy.usage_days SELECT id, 'sent', '2026-03-29', 7, 1 FROM tenancy.tenants;
         SET timezone = 'Europe/Berlin';
         SELECT amount FROM tenancy.usage_recorded(NULL, 'sent')",
    );
    assert_eq!(recorded, "7");
}

#[tokio::test]
async fn a_repair_is_right_while_others_write() {
    let db = Arc::new(platform().await);
    db.sql(
        "UPDATE tenancy.plan_limits SET limit_value = NULL WHERE plan = 'enterprise';
         SELECT tenancy.refresh_plan_limits('{enterprise}', NULL)",
    );
    let mut writers = JoinSet::new();
    for writer in 0..6_i32 {
        let db = Arc::clone(&db);
        writers.spawn(async move {
            let mut session = db.session().await;
            for n in 0..40_i32 {
                let sql = match (writer + n) % 3 {
                    0 => "DELETE FROM public.files WHERE ctid IN (SELECT ctid FROM public.files LIMIT 2 FOR UPDATE SKIP LOCKED)",
                    1 => "INSERT INTO public.files SELECT n, id, n FROM tenancy.tenants, generate_series(1, 3) n",
                    _ => "BEGIN; SELECT set_config('app.current_tenant_id', id::text, true) FROM tenancy.tenants WHERE slug = 'acme';
                          SELECT tenancy.track_usage(id, 'events') FROM tenancy.tenants WHERE slug = 'acme'; COMMIT",
                };
                sqlx::raw_sql(sql).execute(session.connection()).await.unwrap();
            }
        });
    }
    let mut repaired = 0;
    while !writers.is_empty() {
        let db = Arc::clone(&db);
        let round = tokio::task::spawn_blocking(move || {
            // In one order with all others who change several.
            db.sql(
                "BEGIN; SELECT FROM tenancy.usage_counters WHERE metric IN ('storage', 'events')
                   ORDER BY tenant_id, metric, period_start FOR UPDATE;
                 UPDATE tenancy.usage_counters SET used = used + 1000 WHERE metric IN ('storage', 'events'); COMMIT",
            );
            reconcile(&db, 0, &["--repair"]).as_array().unwrap().len()
        });
        repaired += round.await.unwrap();
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
    }
    assert!(repaired >= 3, "{repaired}");
    assert_eq!(reconcile(&db, 0, &[]), json!([]));
    let held = "SELECT coalesce(sum(size), 0) = (SELECT sum(used) FROM tenancy.usage_counters WHERE metric = 'storage') FROM public.files";
    assert_eq!(db.sql(held), "t");
    assert_eq!(unexplained(&db), "");
}
