//! When a limit will be reached.

use serde_json::{Value, json};

use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::TenantRef;
use tenancy::usage;

use super::track;
use crate::common::Database;

/// The forecast for events.
fn events(db: &Database) -> Value {
    db.json(&["usage", "forecast", "acme", "--metric", "events"])[0].clone()
}

/// Records events that were used at the beginning of a day, so many days ago.
fn used(db: &Database, days_ago: u32, amount: &str) {
    let at = db.sql(&format!(
        "SELECT to_char((now() AT TIME ZONE 'UTC')::date - {days_ago}, 'YYYY-MM-DD\"T00:00:00Z\"')"
    ));
    track(db, &["--metric=events", "--amount", amount, "--at", &at]).expect(0);
}

#[tokio::test]
async fn what_grows_reaches_its_limit() {
    let db = Database::with_acme("enterprise").await;
    db.tenantctl(&["limit", "set", "acme", "events", "100"]).expect(0);
    for (days_ago, amount) in
        [(9, "5"), (8, "4"), (7, "6"), (6, "5"), (4, "10"), (3, "5"), (2, "4"), (1, "6")]
    {
        used(&db, days_ago, amount);
    }
    let forecast = events(&db);
    assert_eq!(
        (
            &forecast["outlook"],
            &forecast["used"],
            &forecast["limit"],
            &forecast["days"],
            &forecast["period_end"]
        ),
        (&json!("expected"), &json!(45), &json!(100), &json!(10), &Value::Null)
    );
    assert_eq!(forecast["method"], "least squares over 10 days, 95 % prediction interval");
    let slope = forecast["slope_per_day"].as_f64().unwrap();
    // PostgreSQL's own regression over the same points.
    let theirs = db.sql(
        "WITH points AS (
             SELECT 0::float8 AS x, 45::float8 AS y
              UNION ALL
             SELECT extract(epoch FROM d - now() AT TIME ZONE 'UTC') / 86400,
                    (SELECT sum(amount) FROM tenancy.usage_events WHERE occurred_at AT TIME ZONE 'UTC' < d)
               FROM generate_series((now() AT TIME ZONE 'UTC')::date - 8, (now() AT TIME ZONE 'UTC')::date, interval '1 day') d)
         SELECT regr_slope(y, x), (100 - regr_intercept(y, x)) / regr_slope(y, x) FROM points",
    );
    let (their_slope, their_days) = theirs.split_once('|').unwrap();
    assert!((slope - their_slope.parse::<f64>().unwrap()).abs() < 0.01, "{slope} {theirs}");
    let days = |field: &str| {
        let text = forecast[field].as_str().unwrap();
        db.sql(&format!("SELECT extract(epoch FROM '{text}'::timestamptz - now()) / 86400"))
            .parse::<f64>()
            .unwrap()
    };
    assert!((days("date") - their_days.parse::<f64>().unwrap()).abs() < 0.05, "{theirs} {forecast}");
    assert!(0.0 <= days("earliest") && days("earliest") < days("date") && days("date") < days("latest"));
    let text = db.tenantctl(&["usage", "forecast", "acme"]).expect(0).stdout;
    assert!(
        text.contains("least squares over 10 days") && text.contains("usage of 3 days is needed"),
        "{text}"
    );
    assert!(text.contains("of which no usage is recorded"), "{text}");

    // With the limit lifted, reached, or a variable in its place.
    db.tenantctl(&["limit", "set", "acme", "events", "unlimited"]).expect(0);
    assert_eq!((&events(&db)["outlook"], &events(&db)["date"]), (&json!("unlimited"), &Value::Null));
    db.tenantctl(&["limit", "set", "acme", "events", "45"]).expect(0);
    assert_eq!(events(&db)["outlook"], "reached");
    db.tenantctl(&["limit", "unset", "acme", "events"]).expect(0);
    let mut command = db.command();
    command.env("ENTERPRISE_PLAN_EVENTS", "46").args([
        "usage",
        "forecast",
        "acme",
        "--metric=events",
        "-o=json",
    ]);
    assert_eq!(crate::common::run(&mut command).expect(0).json()[0]["limit"], 46);

    // What is given back does not grow.
    for days_ago in 1..=4 {
        used(&db, days_ago, "-10");
    }
    let forecast = events(&db);
    assert_eq!((&forecast["outlook"], &forecast["date"]), (&json!("not_at_this_pace"), &Value::Null));
    assert!(forecast["slope_per_day"].as_f64().unwrap() < 0.0, "{forecast}");
}

#[tokio::test]
async fn a_period_that_ends_first_is_said() {
    let db = Database::with_acme("enterprise").await;
    db.sql("UPDATE tenancy.metrics SET kind = 'counter', reset = 'monthly' WHERE key = 'events'");
    // The period began four days ago, whatever today is.
    let began: u8 = db.sql("SELECT date_part('day', (now() AT TIME ZONE 'UTC')::date - 4)").parse().unwrap();
    db.tenantctl(&["tenant", "update", "acme", "--billing-day", &began.to_string()]).expect(0);
    used(&db, 6, "50");
    for days_ago in 0..=4 {
        used(&db, days_ago, "10");
    }
    db.tenantctl(&["limit", "set", "acme", "events", "60"]).expect(0);
    let forecast = events(&db);
    assert_eq!(
        (&forecast["used"], &forecast["days"], &forecast["outlook"]),
        (&json!(50), &json!(5), &json!("expected"))
    );
    let end = forecast["period_end"].as_str().unwrap();
    let stats = db.json(&["usage", "stats", "acme"]);
    let start = stats[0]["period_start"].as_str().unwrap();
    assert_eq!(
        db.sql(&format!(
            "SELECT '{end}'::timestamptz - '{start}'::timestamptz BETWEEN '28 days' AND '31 days'"
        )),
        "t"
    );
    db.tenantctl(&["limit", "set", "acme", "events", "5000"]).expect(0);
    let forecast = events(&db);
    assert_eq!((&forecast["outlook"], &forecast["date"]), (&json!("not_in_period"), &Value::Null));
}

#[tokio::test]
async fn with_too_little_there_is_no_forecast() {
    let db = Database::with_acme("enterprise").await;
    let nothing = events(&db);
    assert_eq!(
        (&nothing["outlook"], &nothing["reason"], &nothing["slope_per_day"]),
        (&json!("unknown"), &json!("usage of 3 days is needed, there are 0"), &Value::Null)
    );
    used(&db, 1, "1");
    assert_eq!(events(&db)["reason"], "usage of 3 days is needed, there are 2");
    used(&db, 2, "1");
    assert_eq!(events(&db)["outlook"], "expected");
    db.sql("UPDATE tenancy.metrics SET kind = 'counter', aggregation = 'max' WHERE key = 'events'");
    assert_eq!(events(&db)["outlook"], "unknown");
    // No more days will ever be enough.
    db.sql("UPDATE tenancy.metrics SET kind = 'counter', reset = 'daily', aggregation = 'sum' WHERE key = 'events'");
    let daily = events(&db);
    assert_eq!(
        (&daily["outlook"], &daily["reason"], &daily["days"]),
        (&json!("unknown"), &json!("it resets every day"), &Value::Null)
    );
    // Its end is that of the day in UTC, also for a session whose clocks go forward on that day.
    let zone = db.sql(
        "SELECT format('XXX0YYY,%s/12,%s', d - 1, (d + 30) % 365) FROM to_char(now() AT TIME ZONE 'UTC', 'DDD') t, CAST(t AS int) d",
    );
    let mut session = db.session().await;
    sqlx::query("SELECT set_config('timezone', $1, false)")
        .bind(zone)
        .execute(session.connection())
        .await
        .unwrap();
    let (acme, no_limits) = (TenantRef::Slug("acme".into()), EnvironmentLimits::default());
    let forecasts = usage::forecast(session.connection(), &acme, Some("events"), &no_limits);
    let end = forecasts.await.unwrap()[0].period_end.unwrap().unix_timestamp();
    assert_eq!(
        end.to_string(),
        db.sql("SELECT extract(epoch FROM date_trunc('day', now(), 'UTC'))::bigint + 86400")
    );
    assert_eq!(db.refused(3, &["usage", "forecast", "amce"])["details"]["suggestion"], "acme");
    assert_eq!(
        db.refused(3, &["usage", "forecast", "acme", "--metric=event"])["details"]["suggestion"],
        "events"
    );
}
