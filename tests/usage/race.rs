//! Usage from the library, by many callers at once: against a limit, with one key, and against a change of plan.

use std::sync::Arc;

use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::{self, TenantId, TenantRef, Update};
use tenancy::usage::{self, Decision, Event, Reserve, Track, Tracked, Verdict};
use tenancy::{Error, ErrorKind};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::counted;
use crate::common::Database;

fn acme() -> TenantRef {
    TenantRef::Slug("acme".into())
}

fn events(amount: i64, key: Option<&str>) -> Track {
    Track { metric: "events".into(), amount: amount.to_string(), key: key.map(str::to_owned), at: None }
}

async fn track(db: &Database, track: &Track) -> Result<Tracked, Error> {
    let mut session = db.session().await;
    let mut transaction = session.begin_as_owner().await?;
    let tracked = usage::track(&mut transaction, &acme(), track, &EnvironmentLimits::default()).await?;
    transaction.commit().await?;
    Ok(tracked)
}

async fn move_to(db: &Database, plan: &str) -> Result<(), Error> {
    let mut session = db.session().await;
    let mut transaction = session.begin_as_owner().await?;
    let update = Update { plan: Some(plan.into()), ..Update::default() };
    tenant::update(&mut transaction, &acme(), &update, &EnvironmentLimits::default()).await?;
    transaction.commit().await
}

/// So many callers at once, each on a connection of its own.
async fn all_at_once(
    db: &Arc<Database>,
    callers: usize,
    each: impl Fn(usize) -> Track,
) -> Vec<Result<Tracked, Error>> {
    let mut tasks = JoinSet::new();
    for n in 0..callers {
        let (db, wanted) = (Arc::clone(db), each(n));
        tasks.spawn(async move { track(&db, &wanted).await });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn no_interleaving_admits_more_than_the_limit() {
    let db = Arc::new(Database::with_acme("professional").await);
    // Nothing is there yet: the callers also race for who makes the counter. Amounts of 1, 2 and 3, for a limit of 20.
    let answers = all_at_once(&db, 30, |n| events(n as i64 % 3 + 1, None)).await;
    let accepted: i64 = answers.iter().flatten().map(|tracked| tracked.amount).sum();
    assert!(
        (18..=20).contains(&accepted),
        "{accepted} fit, and a 3 is refused only where 18 or more are used"
    );
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    }
    assert_eq!(counted(&db, "events"), (accepted.to_string(), accepted.to_string()));

    // Every answer was the truth at its moment: no two callers were told the same figure.
    let mut used: Vec<i64> = answers.iter().flatten().map(|tracked| tracked.used).collect();
    used.sort_unstable();
    let told = used.len();
    used.dedup();
    assert_eq!(used.len(), told);
}

#[tokio::test]
async fn one_key_from_many_callers_counts_once() {
    let db = Arc::new(Database::with_acme("free").await);
    for round in 0..3 {
        // The limit is one event: whoever loses the race has to be told "duplicate", not "over the limit".
        let key = format!("order-{round}");
        let answers = all_at_once(&db, 16, |_| events(1, Some(&key))).await;
        let outcomes: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
        let count = |wanted| outcomes.iter().filter(|tracked| tracked.outcome == wanted).count();
        assert_eq!((count(Decision::Accepted), count(Decision::Duplicate)), (1, 15));
        assert!(outcomes.iter().all(|tracked| tracked.used == 1), "everybody gets the first answer");
        assert_eq!(counted(&db, "events"), ("1".into(), "1".into()));
        track(&db, &events(-1, None)).await.unwrap();
    }
}

#[tokio::test]
async fn one_key_for_two_metrics_counts_for_one() {
    let db = Arc::new(Database::with_acme("enterprise").await);
    for round in 0..3 {
        let key = format!("k{round}");
        let answers = all_at_once(&db, 16, |n| Track {
            metric: if n % 2 == 0 { "events" } else { "participants" }.into(),
            ..events(1, Some(&key))
        })
        .await;
        let accepted: Vec<_> = answers.iter().flatten().filter(|t| t.outcome == Decision::Accepted).collect();
        assert_eq!(accepted.len(), 1);
        let conflicts = answers.iter().filter_map(|answer| answer.as_ref().err());
        assert_eq!(conflicts.map(Error::kind).collect::<Vec<_>>(), [ErrorKind::Conflict; 8]);
    }
    let total = db.sql("SELECT sum(used) FROM tenancy.usage_counters");
    assert_eq!(total, "3", "what the losers took while they waited was given back");
}

#[tokio::test]
async fn usage_and_its_release_add_up() {
    let db = Arc::new(Database::with_acme("enterprise").await);
    let answers = all_at_once(&db, 30, |n| events(if n % 2 == 0 { 2 } else { -1 }, None)).await;
    // A release that came before there was anything to release is refused; nothing else is.
    let expected: i64 = answers.iter().flatten().map(|tracked| tracked.amount).sum();
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    }
    assert!(answers.iter().flatten().all(|tracked| tracked.used >= 0));
    assert_eq!(counted(&db, "events"), (expected.to_string(), expected.to_string()));
}

/// Between the update that finds nothing to update and the look at why, somebody else changes the counter: made it, or
/// gave back what was in the way. Neither is a reason to refuse.
#[tokio::test]
async fn a_counter_that_moves_while_it_is_looked_at_refuses_nothing() {
    for before in [0, 20] {
        let db = Arc::new(Database::with_acme("professional").await);
        if before > 0 {
            track(&db, &events(before, None)).await.unwrap();
        }
        // Whoever updates counters stops right after it while somebody holds the lock; replicas do not.
        db.sql(
            "CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END $$;
             CREATE TRIGGER stop AFTER UPDATE ON tenancy.usage_counters EXECUTE FUNCTION public.stop();",
        );
        let mut gate = db.session().await;
        sqlx::query("SELECT pg_advisory_lock(7)").execute(gate.connection()).await.unwrap();
        let waiting = {
            let db = Arc::clone(&db);
            tokio::spawn(async move { track(&db, &events(2, None)).await })
        };
        db.blocked(1).await;
        db.sql(
            "SET session_replication_role = replica;
             INSERT INTO tenancy.usage_counters (tenant_id, metric, period_start, used, limit_value)
             SELECT id, 'events', '-infinity', 3, 20 FROM tenancy.tenants
             ON CONFLICT (tenant_id, metric, period_start) DO UPDATE SET used = 3",
        );
        sqlx::query("SELECT pg_advisory_unlock(7)").execute(gate.connection()).await.unwrap();
        let tracked = waiting.await.unwrap().unwrap();
        assert_eq!((tracked.outcome, tracked.used), (Decision::Accepted, 5));
    }
}

#[tokio::test]
async fn usage_that_waited_for_a_smaller_plan_is_held_against_it() {
    // With a counter that exists, and with one that the waiting caller has to make.
    for existing in [4, 0] {
        let db = Arc::new(Database::with_acme("professional").await);
        if existing > 0 {
            track(&db, &events(existing, None)).await.unwrap();
        }
        let mut session = db.session().await;
        let mut moving = session.begin_as_owner().await.unwrap();
        let update = Update { plan: Some("starter".into()), ..Update::default() };
        tenant::update(&mut moving, &acme(), &update, &EnvironmentLimits::default()).await.unwrap();
        let waiting = {
            let db = Arc::clone(&db);
            tokio::spawn(async move { track(&db, &events(6, None)).await })
        };
        db.blocked(1).await;
        moving.commit().await.unwrap();
        match waiting.await.unwrap().unwrap_err() {
            Error::LimitExceeded { used, limit, .. } => assert_eq!((used, limit), (existing, 5)),
            other => panic!("{other}"),
        }
        assert_eq!(counted(&db, "events"), (existing.to_string(), existing.to_string()));
    }
}

#[tokio::test]
async fn a_smaller_plan_that_waited_for_usage_is_refused_by_it() {
    for existing in [4, 0] {
        let db = Arc::new(Database::with_acme("professional").await);
        if existing > 0 {
            track(&db, &events(existing, None)).await.unwrap();
        }
        let mut session = db.session().await;
        let mut using = session.begin_as_owner().await.unwrap();
        usage::track(&mut using, &acme(), &events(6, None), &EnvironmentLimits::default()).await.unwrap();
        let waiting = {
            let db = Arc::clone(&db);
            tokio::spawn(async move { move_to(&db, "starter").await })
        };
        db.blocked(1).await;
        using.commit().await.unwrap();
        match waiting.await.unwrap().unwrap_err() {
            Error::PlanTooSmall { excesses, .. } => assert_eq!(excesses[0].used, existing + 6),
            other => panic!("{other}"),
        }
        assert_eq!(db.sql("SELECT plan FROM tenancy.tenants"), "professional");
    }
}

#[tokio::test]
async fn plans_that_change_while_usage_goes_on_are_never_overrun() {
    let db = Arc::new(Database::with_acme("professional").await);
    for _ in 0..5 {
        let usage = {
            let db = Arc::clone(&db);
            tokio::spawn(async move { all_at_once(&db, 10, |_| events(1, None)).await })
        };
        let two = events(2, None);
        let (small, large) = tokio::join!(move_to(&db, "starter"), track(&db, &two));
        // Whatever came first, the other one knew of it.
        if let Err(error) = small {
            assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        }
        if let Err(error) = large {
            assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        }
        for answer in usage.await.unwrap() {
            assert!(answer.is_ok() || answer.is_err_and(|error| error.kind() == ErrorKind::LimitExceeded));
        }
        let over = db.sql(
            "SELECT count(*) FROM tenancy.usage_counters c JOIN tenancy.tenants t ON t.id = tenant_id
               JOIN tenancy.plan_limits l ON l.plan = t.plan AND l.metric = c.metric
              WHERE c.used > l.limit_value OR c.limit_value <> l.limit_value",
        );
        assert_eq!(over, "0");
        let (used, sum) = counted(&db, "events");
        assert_eq!(used, sum);
        track(&db, &events(-used.parse::<i64>().unwrap(), None)).await.unwrap();
        move_to(&db, "professional").await.unwrap();
    }
}

/// Whoever reports usage of a metric while somebody begins to meter it is refused: the meter counts all there is.
#[tokio::test]
async fn what_is_reported_while_metering_begins_is_not_counted() {
    let db = Arc::new(Database::with_acme("enterprise").await);
    track(&db, &events(4, None)).await.unwrap();
    db.sql("CREATE TABLE public.ev (id int, tenant_id uuid)");
    db.sql("INSERT INTO public.ev SELECT n, t.id FROM tenancy.tenants t, generate_series(1, 3) n");
    let tenant = TenantId(db.sql("SELECT id FROM tenancy.tenants").parse().unwrap());
    let mut session = db.session().await;
    let mut attaching = session.begin().await.unwrap();
    sqlx::query("SELECT FROM tenancy.attach_meter('events', 'public.ev')")
        .execute(&mut *attaching)
        .await
        .unwrap();

    // Each has read that the metric is reported, and waits for the counter.
    let one = events(1, Some("one"));
    let tracked = track(&db, &one);
    let recorded = async {
        let mut session = db.session().await;
        let mut transaction = session.begin_as_owner().await?;
        let at = OffsetDateTime::now_utc();
        let event = Event { tenant, metric: "events".into(), amount: 1, key: Some("two".into()), at };
        let none = EnvironmentLimits::default();
        let answers = usage::record(&mut transaction, &[event], at - time::Duration::DAY, &none).await?;
        transaction.commit().await.map(|()| answers)
    };
    let reserved = async {
        let mut session = db.session().await;
        let mut transaction = session.begin_as_owner().await?;
        let (metric, ttl) = ("events".into(), std::time::Duration::from_secs(60));
        let wanted = Reserve { metric, amount: "1".into(), ttl, key: None };
        let none = EnvironmentLimits::default();
        usage::reserve(&mut transaction, &acme(), &wanted, &none).await?;
        transaction.commit().await
    };
    let then = async {
        db.blocked(3).await;
        attaching.commit().await.unwrap();
    };
    let (tracked, recorded, reserved, ()) = tokio::join!(tracked, recorded, reserved, then);
    assert_eq!(tracked.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(recorded.unwrap()[0].verdict, Verdict::NotReported);
    assert_eq!(reserved.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(counted(&db, "events").0, "3");
    assert_eq!(
        db.sql("SELECT count(*) FROM tenancy.usage_events WHERE key IS NOT NULL"),
        "0",
        "what was refused left nothing behind"
    );
}
