//! Changes of limits while usage goes on.

use std::sync::Arc;

use tenancy::ErrorKind;
use tenancy::limit::{self, NewOverride};
use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::TenantRef;
use tenancy::usage::{self, Track, Tracked};
use tokio::task::JoinSet;

use super::out_of_line;
use crate::common::Database;

fn acme() -> TenantRef {
    TenantRef::Slug("acme".into())
}

async fn track(db: &Database, amount: i64) -> Result<Tracked, tenancy::Error> {
    let track = Track { metric: "events".into(), amount: amount.to_string(), key: None, at: None };
    let mut session = db.session().await;
    let mut transaction = session.begin_as_owner().await?;
    let tracked = usage::track(&mut transaction, &acme(), &track, &EnvironmentLimits::default()).await?;
    transaction.commit().await?;
    Ok(tracked)
}

fn own(limit: i64) -> NewOverride {
    NewOverride {
        metric: "events".into(),
        limit: limit.to_string(),
        soft: false,
        expires_at: None,
        reason: None,
    }
}

async fn set(db: &Database, limit: i64) {
    let mut session = db.session().await;
    let mut transaction = session.begin_as_owner().await.unwrap();
    limit::set(&mut transaction, &acme(), &own(limit)).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn limits_that_change_while_sixteen_track_are_never_overrun() {
    let db = Arc::new(Database::with_acme("free").await);
    let limits = [6, 2, 12, 9, 4, 30];
    let largest = 30;
    let mut trackers = JoinSet::new();
    for _ in 0..16 {
        let db = Arc::clone(&db);
        trackers.spawn(async move {
            let mut admitted = 0;
            for _ in 0..8 {
                match track(&db, 1).await {
                    Ok(tracked) => {
                        admitted += 1;
                        assert!(tracked.used <= tracked.limit.unwrap(), "{tracked:?}");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}"),
                }
            }
            admitted
        });
    }
    for limit in limits {
        set(&db, limit).await;
    }
    let mut admitted = 0;
    while let Some(one) = trackers.join_next().await {
        admitted += one.unwrap();
    }
    // The last limit is the largest: whoever comes now fills it up to the last one, and no further.
    while track(&db, 1).await.is_ok() {
        admitted += 1;
    }
    assert_eq!(admitted, largest);
    assert_eq!(db.sql("SELECT used FROM tenancy.usage_counters"), largest.to_string());
    assert_eq!(db.sql("SELECT sum(amount) FROM tenancy.usage_events"), largest.to_string());
    assert_eq!(out_of_line(&db), "0");
}

/// With a counter that exists and with one that the waiting caller has to make, whoever comes first.
#[tokio::test]
async fn usage_and_a_change_of_limit_wait_for_each_other() {
    for existing in [0, 1] {
        let db = Arc::new(Database::with_acme("professional").await);
        if existing > 0 {
            track(&db, existing).await.unwrap();
        }
        let mut session = db.session().await;
        let mut setting = session.begin_as_owner().await.unwrap();
        limit::set(&mut setting, &acme(), &own(3)).await.unwrap();
        let waiting = {
            let db = Arc::clone(&db);
            tokio::spawn(async move { track(&db, 4).await })
        };
        db.blocked(1).await;
        setting.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::LimitExceeded);

        let db = Arc::new(Database::with_acme("professional").await);
        if existing > 0 {
            track(&db, existing).await.unwrap();
        }
        let mut session = db.session().await;
        let mut using = session.begin_as_owner().await.unwrap();
        let four = Track { metric: "events".into(), amount: "4".into(), key: None, at: None };
        usage::track(&mut using, &acme(), &four, &EnvironmentLimits::default()).await.unwrap();
        let waiting = {
            let db = Arc::clone(&db);
            tokio::spawn(async move { set(&db, 3).await })
        };
        db.blocked(1).await;
        using.commit().await.unwrap();
        waiting.await.unwrap();
        assert_eq!(out_of_line(&db), "0");
        assert_eq!(track(&db, 1).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
}

/// The first use of a tenant and a change of its plan's limits, whoever comes first; and a tenant that moves to the plan.
#[tokio::test]
async fn a_change_of_a_plan_misses_no_counter() {
    const LOWER: &str = "SELECT tenancy.change_plan_limits();
        UPDATE tenancy.plan_limits SET limit_value = 3 WHERE plan = 'starter' AND metric = 'events';
        SELECT tenancy.refresh_plan_limits('{starter}', NULL)";
    for existing in [0, 1] {
        // The plan changes first.
        let db = Arc::new(Database::with_acme("starter").await);
        if existing > 0 {
            track(&db, existing).await.unwrap();
        }
        let mut session = db.session().await;
        let mut changing = session.begin_as_owner().await.unwrap();
        sqlx::raw_sql(LOWER).execute(&mut *changing).await.unwrap();
        let waiting = {
            let db = Arc::clone(&db);
            tokio::spawn(async move { track(&db, 4).await })
        };
        db.blocked(1).await;
        changing.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert_eq!(out_of_line(&db), "0");

        // The use comes first.
        let db = Arc::new(Database::with_acme("starter").await);
        if existing > 0 {
            track(&db, existing).await.unwrap();
        }
        let mut session = db.session().await;
        let mut using = session.begin_as_owner().await.unwrap();
        let four = Track { metric: "events".into(), amount: "4".into(), key: None, at: None };
        usage::track(&mut using, &acme(), &four, &EnvironmentLimits::default()).await.unwrap();
        let waiting = {
            let db = Arc::clone(&db);
            tokio::task::spawn_blocking(move || db.sql(&format!("BEGIN; {LOWER}; COMMIT")))
        };
        db.blocked(1).await;
        using.commit().await.unwrap();
        waiting.await.unwrap();
        assert_eq!(out_of_line(&db), "0");
        assert_eq!(db.sql("SELECT limit_value FROM tenancy.usage_counters"), "3");
    }

    // A tenant that moves to the plan meanwhile.
    let db = Arc::new(Database::with_acme("professional").await);
    track(&db, 1).await.unwrap();
    let mut session = db.session().await;
    let mut changing = session.begin_as_owner().await.unwrap();
    sqlx::raw_sql(LOWER).execute(&mut *changing).await.unwrap();
    let moving = {
        let db = Arc::clone(&db);
        tokio::task::spawn_blocking(move || db.tenantctl(&["tenant", "update", "acme", "--plan", "starter"]))
    };
    db.blocked(1).await;
    changing.commit().await.unwrap();
    moving.await.unwrap().expect(0);
    assert_eq!(out_of_line(&db), "0");
    assert_eq!(db.sql("SELECT limit_value FROM tenancy.usage_counters"), "3");
}

/// A key that is tracked twice at once, for two periods: the counter of the largest amount has again what it had before.
#[tokio::test]
async fn a_replay_that_waited_gives_back_the_largest_amount() {
    let db = Arc::new(Database::with_acme("free").await);
    db.sql(
        "INSERT INTO tenancy.metrics (key, name, unit, kind, reset, aggregation)
         VALUES ('peak', 'Peak', 'count', 'counter', 'daily', 'max')",
    );
    let peak = |amount: i64, key: Option<&str>, day: u8| Track {
        metric: "peak".into(),
        amount: amount.to_string(),
        key: key.map(str::to_owned),
        at: Some(time::OffsetDateTime::new_utc(
            time::Date::from_calendar_date(2026, time::Month::October, day).unwrap(),
            time::Time::MIDNIGHT,
        )),
    };
    for (before, day) in [(2, 2), (0, 3)] {
        let key = format!("k{day}");
        let mut session = db.session().await;
        if before > 0 {
            let mut transaction = session.begin_as_owner().await.unwrap();
            let two = peak(before, None, day);
            usage::track(&mut transaction, &acme(), &two, &EnvironmentLimits::default()).await.unwrap();
            transaction.commit().await.unwrap();
        }
        let mut first = session.begin_as_owner().await.unwrap();
        let nine = peak(9, Some(&key), 1);
        usage::track(&mut first, &acme(), &nine, &EnvironmentLimits::default()).await.unwrap();
        let waiting = {
            let (db, nine) = (Arc::clone(&db), peak(9, Some(&key), day));
            tokio::spawn(async move {
                let mut session = db.session().await;
                let mut transaction = session.begin_as_owner().await.unwrap();
                let answer = usage::track(&mut transaction, &acme(), &nine, &EnvironmentLimits::default())
                    .await
                    .unwrap();
                transaction.commit().await.unwrap();
                answer
            })
        };
        db.blocked(1).await;
        first.commit().await.unwrap();
        let answer = waiting.await.unwrap();
        assert_eq!((answer.outcome, answer.used), (usage::Decision::Duplicate, 9));
        let used =
            format!("SELECT used FROM tenancy.usage_counters WHERE period_start = '2026-10-{day:02}Z'");
        assert_eq!(db.sql(&used), before.to_string());
    }
}
