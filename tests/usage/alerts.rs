//! Thresholds of limits: each is recorded once for each time that it is reached, whatever the way by which it is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::postgres::PgListener;
use tenancy::usage::CHANNEL;
use tokio::task::JoinSet;

use super::track;
use crate::common::Database;

/// Metric, threshold, used and limit of every alert, oldest first.
fn crossed(db: &Database) -> String {
    db.sql(
        "SELECT string_agg(format('%s %s %s/%s', metric, threshold, used, limit_value), ', ' ORDER BY id)
           FROM tenancy.usage_alerts",
    )
}

/// Counters whose level or bounds are not what their use and their limit make them.
fn out_of_line(db: &Database) -> String {
    db.sql(
        "SELECT count(*) FROM tenancy.usage_counters c
          CROSS JOIN LATERAL tenancy.limit_in_force(limit_value, soft, override_value, override_soft, override_until, NULL) f
          WHERE alert_level <> tenancy.usage_level(used, f.limit_value) OR used >= alert_at OR used < alert_below
             OR (alert_at IS NULL) IS DISTINCT FROM (coalesce(f.limit_value, 0) = 0 OR alert_level = 100)",
    )
}

fn use_up(db: &Database, amount: &str) {
    track(db, &["--metric=events", "--amount", amount]).expect(0);
}

#[tokio::test]
async fn each_threshold_is_recorded_once() {
    let db = Database::with_acme("professional").await;
    assert_eq!(db.json(&["usage", "alerts"]), json!([]));
    use_up(&db, "15");
    assert_eq!(crossed(&db), "");
    use_up(&db, "1");
    use_up(&db, "1");
    assert_eq!(crossed(&db), "events 80 16/20");
    use_up(&db, "3");
    assert_eq!(crossed(&db), "events 80 16/20, events 90 20/20, events 100 20/20");
    // What is refused, rolled back or a repetition crosses nothing.
    track(&db, &["--metric=events"]).expect(6);
    track(&db, &["--metric=storage", "--amount=25GB", "--dry-run"]).expect(0);
    track(&db, &["--metric=participants", "--amount=800", "--key=k"]).expect(0);
    track(&db, &["--metric=participants", "--amount=800", "--key=k"]).expect(0);
    assert_eq!(crossed(&db).matches("participants").count(), 1);

    let alerts = db.json(&["usage", "alerts", "acme"]);
    let mut newest = alerts[0].clone();
    let at = newest["crossed_at"].take();
    let last = db.sql("SELECT max(id) FROM tenancy.usage_alerts");
    assert_eq!(newest["id"].take().to_string(), last);
    assert_eq!(
        newest,
        json!({ "tenant": "acme", "metric": "participants", "unit": "count", "threshold": 80, "used": 800,
                "limit": 1000, "period_start": null, "crossed_at": null, "id": null })
    );
    let of = |arguments: &[&str]| -> Vec<i64> {
        let alerts = db.json(&[&["usage", "alerts"], arguments].concat());
        alerts.as_array().unwrap().iter().map(|alert| alert["threshold"].as_i64().unwrap()).collect()
    };
    assert_eq!(of(&["acme", "--metric", "events"]), [100, 90, 80]);
    assert_eq!(of(&["--since", at.as_str().unwrap()]), [80]);
    assert_eq!(of(&["--since", "2999-01-01T00:00:00Z"]), [] as [i64; 0]);
    let text = db.tenantctl(&["usage", "alerts", "acme"]).expect(0).stdout;
    let line: Vec<_> = text.lines().nth(2).unwrap().split_whitespace().take(6).collect();
    assert_eq!(line, ["acme", "events", "100", "%", "20", "20"], "{text}");
    assert_eq!(db.refused(3, &["usage", "alerts", "amce"])["details"]["suggestion"], "acme");
    assert_eq!(db.refused(3, &["usage", "alerts", "--metric", "event"])["details"]["suggestion"], "events");
    db.tenantctl(&["usage", "alerts", "--since", "today"]).expect(2);
    assert_eq!(out_of_line(&db), "0");

    // What belongs to a tenant goes with it.
    db.sql("DELETE FROM tenancy.tenants");
    assert_eq!(crossed(&db), "");
}

#[tokio::test]
async fn every_way_of_recording_crosses() {
    let db = Database::with_acme("professional").await;
    // Many events in one statement.
    db.sql(
        "SELECT FROM tenancy.record_usage(
             ARRAY[(SELECT id FROM tenancy.tenants)], ARRAY['events'], ARRAY[current_date], ARRAY[NULL::bigint],
             array_fill(1, ARRAY[18]), array_fill(1::bigint, ARRAY[18]), array_fill(NULL::text, ARRAY[18]),
             array_fill(now(), ARRAY[18]), now() - interval '1 day', false)",
    );
    assert_eq!(crossed(&db), "events 80 18/20, events 90 18/20");
    // Members who are counted.
    db.sql("UPDATE tenancy.plan_limits SET limit_value = 1 WHERE metric = 'admins'");
    db.sql("SELECT tenancy.refresh_plan_limits(ARRAY['professional'], ARRAY['admins'])");
    db.tenantctl(&["user", "add", "acme", "a@acme.org", "--role", "admin"]).expect(0);
    assert!(crossed(&db).ends_with("admins 80 1/1, admins 90 1/1, admins 100 1/1"), "{}", crossed(&db));
    // A counter that is there at once, and one that is set right by hand.
    db.sql(
        "INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start, used, limit_value)
         SELECT id, 'participants', '-infinity', 85, 100 FROM tenancy.tenants",
    );
    assert!(crossed(&db).ends_with("participants 80 85/100"), "{}", crossed(&db));
    db.sql("UPDATE tenancy.usage_counters SET used = 99 WHERE metric = 'participants'");
    assert!(crossed(&db).ends_with("participants 90 99/100"), "{}", crossed(&db));
    // The platform itself, whose role has no right to any of it.
    let acme = db.sql("SELECT id FROM tenancy.tenants");
    let login = db.app_login();
    let call = format!("SELECT outcome FROM tenancy.track_usage('{acme}', 'events', 2)");
    assert_eq!(db.psql_as(&login, Some(&acme), &call).expect(0).stdout.trim(), "accepted");
    assert!(crossed(&db).ends_with("events 100 20/20"), "{}", crossed(&db));
    assert_eq!(out_of_line(&db), "0");
}

#[tokio::test]
async fn what_falls_and_rises_again_crosses_again() {
    let db = Database::with_acme("professional").await;
    use_up(&db, "18");
    use_up(&db, "-1");
    use_up(&db, "1");
    use_up(&db, "-10");
    use_up(&db, "9");
    let once = "events 80 18/20, events 90 18/20, events 90 18/20, events 80 17/20";
    assert_eq!(crossed(&db), once);
    // Within one transaction nobody saw it.
    let acme = db.sql("SELECT id FROM tenancy.tenants");
    let call = |amount: i32| format!("SELECT FROM tenancy.track_usage('{acme}', 'events', {amount})");
    let login = db.app_login();
    db.psql_as(&login, Some(&acme), &format!("{}; {}", call(3), call(-3))).expect(0);
    db.psql_as(&login, Some(&acme), &format!("{}; {}", call(-17), call(17))).expect(0);
    assert_eq!(crossed(&db), once);
    assert_eq!(out_of_line(&db), "0");
}

#[tokio::test]
async fn a_limit_that_changes_crosses_too() {
    let db = Database::with_acme("professional").await;
    use_up(&db, "5");
    let set = |limit: &str| db.tenantctl(&["limit", "set", "acme", "events", limit]).expect(0);
    set("6");
    assert_eq!(crossed(&db), "events 80 5/6");
    set("4");
    assert_eq!(crossed(&db), "events 80 5/6, events 90 5/4, events 100 5/4");
    // Without a limit, with one of zero, or with more room, there is nothing to cross, and later it can be again.
    for room in ["unlimited", "0", "100"] {
        set(room);
        assert_eq!(db.sql("SELECT alert_level FROM tenancy.usage_counters"), "0", "{room}");
        assert_eq!(out_of_line(&db), "0", "{room}");
    }
    assert_eq!(crossed(&db).matches("events").count(), 3);
    set("5");
    assert!(crossed(&db).ends_with("events 80 5/5, events 90 5/5, events 100 5/5"), "{}", crossed(&db));
    db.tenantctl(&["limit", "unset", "acme", "events"]).expect(0);
    assert_eq!(out_of_line(&db), "0");
    let known = crossed(&db).matches("events").count();

    // Another plan, and another limit of the plan.
    db.sql("UPDATE tenancy.plan_limits SET limit_value = 6 WHERE plan = 'starter' AND metric = 'events'");
    db.tenantctl(&["tenant", "update", "acme", "--plan", "starter"]).expect(0);
    assert!(crossed(&db).ends_with("events 80 5/6"), "{}", crossed(&db));
    db.sql("UPDATE tenancy.plan_limits SET limit_value = 5 WHERE plan = 'starter' AND metric = 'events'");
    db.sql("SELECT tenancy.refresh_plan_limits(ARRAY['starter'], ARRAY[]::text[])");
    assert_eq!(crossed(&db).matches("events").count(), known + 3);
    assert_eq!(out_of_line(&db), "0");
}

#[tokio::test]
async fn a_change_of_limits_writes_each_counter_once() {
    let db = Database::with_acme("professional").await;
    use_up(&db, "17");
    track(&db, &["--metric=participants", "--amount=10"]).expect(0);
    for limit in ["100", "NULL", "0", "50", "18"] {
        let writes = db.sql(&format!(
            "UPDATE tenancy.plan_limits SET limit_value = {limit} WHERE plan = 'professional' AND metric = 'events';
             SELECT tenancy.refresh_plan_limits(ARRAY['professional'], ARRAY[]::text[]);
             SELECT pg_stat_get_xact_tuples_updated('tenancy.usage_counters'::regclass)"
        ));
        assert_eq!(writes, "1\n1", "{limit}");
        assert_eq!(out_of_line(&db), "0", "{limit}");
    }
    let bounds =
        "SELECT alert_level, alert_at, alert_below FROM tenancy.usage_counters WHERE metric = 'events'";
    assert_eq!(db.sql(bounds), "90|18|17");
    let writes = db.sql(
        "INSERT INTO tenancy.limit_overrides (tenant_id, metric, limit_value, soft, reason, actor)
         SELECT id, 'events', 30, false, 'test', 'test' FROM tenancy.tenants;
         SELECT tenancy.refresh_limits(id) FROM tenancy.tenants;
         SELECT pg_stat_get_xact_tuples_updated('tenancy.usage_counters'::regclass)",
    );
    assert_eq!(writes.trim(), "1");
    assert_eq!(out_of_line(&db), "0");
    assert_eq!(db.sql(bounds), "0|24|");
    // Whoever changes a limit and no more leaves the bounds in line, too.
    db.sql("UPDATE tenancy.usage_counters SET limit_value = 21, override_value = 19 WHERE metric = 'events'");
    assert_eq!(out_of_line(&db), "0");
}

#[tokio::test]
async fn an_override_that_expires_is_noticed_with_the_next_use() {
    let db = Database::with_acme("professional").await;
    db.tenantctl(&["limit", "set", "acme", "events", "100", "--expires", "1h"]).expect(0);
    use_up(&db, "17");
    assert_eq!(crossed(&db), "");
    db.sql(
        "UPDATE tenancy.limit_overrides SET expires_at = now() + interval '1 second';
         SELECT tenancy.refresh_limits(id) FROM tenancy.tenants",
    );
    tokio::time::sleep(Duration::from_millis(1100)).await;
    use_up(&db, "1");
    assert_eq!(crossed(&db), "events 80 18/20, events 90 18/20");
    assert_eq!(db.sql("SELECT alert_at, alert_below, alert_until FROM tenancy.usage_counters"), "20|18|");
    assert_eq!(out_of_line(&db), "0");
}

#[tokio::test]
async fn thresholds_of_every_limit_are_whole_and_within_it() {
    let db = Database::migrated().await;
    let limits = "SELECT generate_series(1, 1000)::bigint UNION ALL SELECT 9223372036854775807 - generate_series(0, 200)";
    assert_eq!(
        db.sql(&format!(
            "SELECT count(*) FROM ({limits}) l (most), unnest(ARRAY[80, 90, 100]) p
              WHERE tenancy.usage_threshold(most, p) <> ceil(most * (p * 0.01))"
        )),
        "0"
    );
    assert_eq!(db.sql("SELECT tenancy.usage_threshold(0, 80), tenancy.usage_threshold(NULL, 80)"), "|");
}

#[tokio::test]
async fn sixteen_that_cross_at_once_leave_one_alert_for_each_threshold() {
    let db = Arc::new(Database::with_acme("professional").await);
    let acme: uuid::Uuid = db.sql("SELECT id FROM tenancy.tenants").parse().unwrap();
    let mut listener = PgListener::connect_with(&db.pool()).await.unwrap();
    listener.listen(CHANNEL).await.unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(16).connect_lazy_with(db.options.clone());
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let pool = pool.clone();
        tasks.spawn(async move {
            for _ in 0..2 {
                let mut transaction = pool.begin().await.unwrap();
                sqlx::query("SELECT set_config('app.current_tenant_id', $1::text, true)")
                    .bind(acme)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                sqlx::query("SELECT FROM tenancy.track_usage($1, 'events', 1)")
                    .bind(acme)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                transaction.commit().await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(crossed(&db), "events 80 16/20, events 90 18/20, events 100 20/20");
    for (threshold, used) in [(80, 16), (90, 18), (100, 20)] {
        let told = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await.unwrap().unwrap();
        // No more than where to read it, since anybody may listen.
        let id: i64 = told.payload().parse().unwrap();
        assert_eq!(
            db.sql(&format!(
                "SELECT tenant_id, metric, threshold, used, limit_value FROM tenancy.usage_alerts WHERE id = {id}"
            )),
            format!("{acme}|events|{threshold}|{used}|20")
        );
    }
    let nothing = tokio::time::timeout(Duration::from_millis(200), listener.recv()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    assert_eq!(out_of_line(&db), "0");
}

#[tokio::test]
async fn alerts_go_with_the_usage_that_is_as_old() {
    let db = Database::with_acme("professional").await;
    let age = |days: u32| {
        db.sql(&format!("UPDATE tenancy.usage_alerts SET crossed_at = crossed_at - interval '{days} days'"));
    };
    let prune = |more: &[&str]| {
        db.tenantctl(&[&["usage", "prune", "--keep", "90d"][..], more].concat()).expect(0);
        crossed(&db)
    };
    // A gauge that is above a threshold, below, and above again; and a month's counter.
    db.sql(
        "INSERT INTO tenancy.metrics (key, name, unit, kind, reset, default_limit)
         VALUES ('seats', 'Seats', 'count', 'gauge', 'never', 10), ('calls', 'Calls', 'count', 'counter', 'monthly', 10)",
    );
    for amount in ["9", "-5", "5", "-1"] {
        track(&db, &["--metric=seats", &format!("--amount={amount}")]).expect(0);
    }
    track(&db, &["--metric=calls", "--amount=8"]).expect(0);
    let all = "seats 80 9/10, seats 90 9/10, seats 80 9/10, seats 90 9/10, calls 80 8/10";
    assert_eq!(prune(&[]), all);
    age(89);
    assert_eq!(prune(&[]), all);
    age(2);
    assert_eq!(prune(&["--dry-run"]), all);
    // What of it still stands.
    assert_eq!(prune(&[]), "seats 80 9/10");
    assert_eq!(out_of_line(&db), "0");
    // It is not recorded once more.
    track(&db, &["--metric=seats", "--amount=1"]).expect(0);
    assert_eq!(crossed(&db), "seats 80 9/10, seats 90 9/10");
}

#[tokio::test]
async fn a_tenant_sees_its_own_alerts_and_writes_none() {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["tenant", "create", "Beta", "--plan", "free"]).expect(0);
    use_up(&db, "1");
    let id = |slug: &str| db.sql(&format!("SELECT id FROM tenancy.tenants WHERE slug = '{slug}'"));
    let login = db.app_login();
    let see = "SELECT count(*) FROM tenancy.usage_alerts";
    assert_eq!(db.psql_as(&login, Some(&id("acme")), see).expect(0).stdout.trim(), "3");
    assert_eq!(db.psql_as(&login, Some(&id("beta")), see).expect(0).stdout.trim(), "0");
    assert_eq!(db.psql_as(&login, None, see).expect(0).stdout.trim(), "0");
    let before = db.dump();
    for sql in [
        "DELETE FROM tenancy.usage_alerts",
        "UPDATE tenancy.usage_alerts SET threshold = 1",
        "INSERT INTO tenancy.usage_alerts (tenant_id, metric, period_start, threshold, used, limit_value)
         SELECT tenant_id, metric, period_start, 80, 1, 1 FROM tenancy.usage_counters",
        "UPDATE tenancy.usage_counters SET alert_level = 100",
        "SELECT tenancy.usage_threshold(1, 80)",
    ] {
        let refused = db.psql_as(&login, Some(&id("acme")), sql);
        assert!(refused.code != 0 && refused.stderr.contains("42501"), "{sql}: {refused:?}");
    }
    assert_eq!(db.dump(), before);
}
