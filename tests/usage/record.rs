//! Many events at once: every answer is the one that a simple model gives, whatever comes in whatever order.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::TenantId;
use tenancy::usage::{self, Event, Recorded, Verdict};
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::common::Database;

const METRICS: &str = "INSERT INTO tenancy.metrics (key, name, unit, kind, reset, aggregation, default_limit, default_soft) VALUES
    ('hard', 'Hard', 'count', 'gauge', 'never', 'sum', 30, false), ('soft', 'Soft', 'count', 'gauge', 'never', 'sum', 20, true),
    ('most', 'Most', 'count', 'counter', 'daily', 'max', 7, false), ('open', 'Open', 'bytes', 'counter', 'never', 'sum', NULL, false)";

async fn two_tenants() -> (Database, Vec<Uuid>) {
    let db = Database::with_acme("free").await;
    db.tenantctl(&["tenant", "create", "bolt"]).expect(0);
    db.sql(METRICS);
    let mut ids: Vec<Uuid> = ["acme", "bolt"]
        .map(|slug| db.sql(&format!("SELECT id FROM tenancy.tenants WHERE slug = '{slug}'")).parse().unwrap())
        .into();
    ids.push(Uuid::from_u128(9));
    (db, ids)
}

async fn record(db: &Database, events: &[Event]) -> Vec<Recorded> {
    let mut session = db.session().await;
    let mut transaction = session.begin_as_owner().await.unwrap();
    let oldest = OffsetDateTime::now_utc() - Duration::days(35);
    let answers =
        usage::record(&mut transaction, events, oldest, &EnvironmentLimits::default()).await.unwrap();
    transaction.commit().await.unwrap();
    answers
}

/// One event after the other, as anybody would write it down.
#[derive(Default)]
struct Model {
    used: HashMap<(Uuid, String, Option<i64>), i64>,
    keys: HashMap<(Uuid, String), (String, i64)>,
}

impl Model {
    /// The verdicts, and what was used after each that was recorded.
    fn batch(
        &mut self,
        events: &[Event],
        now: OffsetDateTime,
        tenants: &[Uuid],
    ) -> Vec<(Verdict, Option<i64>)> {
        // What was refused in the same batch is remembered for its end.
        let mut refused: HashMap<(Uuid, String), (String, Option<i64>, i64)> = HashMap::new();
        let mut fresh: HashMap<(Uuid, String), (String, Option<i64>, i64)> = HashMap::new();
        let mut answers = Vec::new();
        for event in events {
            let (tenant, metric, amount) = (event.tenant.0, event.metric.as_str(), event.amount);
            let day = (metric == "most").then(|| event.at.date().to_julian_day().into());
            let this = (metric.to_owned(), day, amount);
            let key = event.key.clone().map(|key| (tenant, key));
            let mut then = None;
            let verdict = if !tenants[..2].contains(&tenant) {
                Verdict::UnknownTenant
            } else if !["hard", "soft", "most", "open"].contains(&metric) {
                Verdict::UnknownMetric
            } else if amount == 0 || amount == i64::MIN || (amount < 0 && ["most", "open"].contains(&metric))
            {
                Verdict::InvalidAmount
            } else if key.as_ref().is_some_and(|(_, key)| key.is_empty() || key.len() > 1024) {
                Verdict::InvalidKey
            } else if event.at < now - Duration::days(35) {
                Verdict::TooOld
            } else if event.at > now + Duration::hours(2) {
                Verdict::TooNew
            } else if let Some(first) = key
                .as_ref()
                .and_then(|key| self.keys.get(key))
                .filter(|_| !fresh.contains_key(key.as_ref().unwrap()))
            {
                if *first == (metric.to_owned(), amount) { Verdict::Duplicate } else { Verdict::Conflict }
            } else if let Some(first) = key.as_ref().and_then(|key| fresh.get(key)) {
                if *first == this { Verdict::Duplicate } else { Verdict::Conflict }
            } else if let Some(first) = key.as_ref().and_then(|key| refused.get(key)) {
                if *first == this { Verdict::Rejected } else { Verdict::Conflict }
            } else {
                let used = self.used.entry((tenant, metric.to_owned(), day)).or_default();
                let sum = used.checked_add(amount);
                let (fits, after) = match metric {
                    "most" => (amount <= 7, (*used).max(amount)),
                    _ if amount < 0 => (*used >= -amount, *used + amount),
                    "hard" => (sum.is_some_and(|sum| sum <= 30), sum.unwrap_or(0)),
                    _ => (sum.is_some(), sum.unwrap_or(0)),
                };
                if fits {
                    *used = after;
                    then = Some(after);
                }
                if let Some(key) = key {
                    if fits {
                        self.keys.insert(key.clone(), (metric.to_owned(), amount));
                        fresh.insert(key, this);
                    } else {
                        refused.insert(key, this);
                    }
                }
                match (fits, metric == "soft" && amount > 0 && after > 20) {
                    (true, true) => Verdict::OverSoftLimit,
                    (true, false) => Verdict::Accepted,
                    (false, _) => Verdict::Rejected,
                }
            };
            answers.push((verdict, then));
        }
        answers
    }
}

fn event(tenants: Vec<Uuid>, now: OffsetDateTime) -> impl Strategy<Value = Event> {
    let tenant = prop_oneof![9 => 0..2_usize, 1 => Just(2_usize)];
    let metric = prop_oneof![4 => Just("hard"), 4 => Just("soft"), 3 => Just("most"), 2 => Just("open"), 1 => Just("none")];
    let amount = prop_oneof![
        20 => prop::sample::select(vec![1_i64, 2, 3, 5, 8, -1, -4]),
        1 => prop::sample::select(vec![0, i64::MIN, i64::MAX, i64::MAX - 5, -i64::MAX])
    ];
    let key = prop_oneof![
        3 => Just(None),
        9 => (0..60_u32).prop_map(|n| Some(format!("key '{n}"))),
        1 => prop::sample::select(vec![Some(String::new()), Some("k".repeat(10_000))])
    ];
    let age = prop_oneof![20 => 0..3_i64, 1 => Just(36), 1 => Just(-1)];
    (tenant, metric, amount, key, age).prop_map(move |(tenant, metric, amount, key, age)| Event {
        tenant: TenantId(tenants[tenant]),
        metric: metric.into(),
        amount,
        key,
        at: now - Duration::days(age),
    })
}

/// One that is new and that nothing but its limit can stand in the way of.
fn plain_event(tenants: Vec<Uuid>, now: OffsetDateTime) -> impl Strategy<Value = Event> {
    let metric = prop::sample::select(vec!["hard", "soft", "open"]);
    (0..2_usize, metric, prop::sample::select(vec![1_i64, 2, -1, -3]), any::<u64>()).prop_map(
        move |(tenant, metric, amount, key)| Event {
            tenant: TenantId(tenants[tenant]),
            metric: metric.into(),
            amount: if metric == "open" { amount.abs() } else { amount },
            key: Some(format!("{key:x}")),
            at: now,
        },
    )
}

#[tokio::test]
async fn many_at_once_are_decided_as_one_after_the_other() {
    let (db, tenants) = two_tenants().await;
    let now = OffsetDateTime::now_utc();
    let mut model = Model::default();
    let seed = RngSeed::Fixed(std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4));
    let mut runner = TestRunner::new(Config { rng_seed: seed, ..Config::default() });
    let batches = prop::collection::vec(event(tenants.clone(), now), 1..40);
    let plain_batches = prop::collection::vec(plain_event(tenants.clone(), now), 1..12);
    let mut events = Vec::new();
    for round in 0..160 {
        match round % 4 {
            0 | 2 => events = batches.new_tree(&mut runner).unwrap().current(),
            1 => events = plain_batches.new_tree(&mut runner).unwrap().current(),
            // The same once more, all of it or with something new in the middle.
            _ if round % 8 == 3 => {
                let mut more = plain_batches.new_tree(&mut runner).unwrap().current();
                more.extend(events);
                events = more;
            }
            _ => {}
        }
        if round % 40 == 38 {
            // A new part of the ledger: the keys of the others count on.
            db.sql("UPDATE tenancy.usage_epochs SET opened_at = opened_at - interval '40 days'");
            db.sql("SELECT tenancy.open_usage_epoch('90 days')");
        }
        let got = record(&db, &events).await;
        let wanted = model.batch(&events, now, &tenants);
        for (n, (got, (verdict, used))) in got.iter().zip(&wanted).enumerate() {
            assert_eq!(got.verdict, *verdict, "round {round}, event {n}: {:?}\nof {events:#?}", events[n]);
            if used.is_some() {
                assert_eq!(got.used, *used, "round {round}, event {n}: {:?}\nof {events:#?}", events[n]);
            }
        }
        assert_eq!(got.len(), wanted.len());
    }
    for ((tenant, metric, day), used) in &model.used {
        let period = day.map_or("-infinity".into(), |day| {
            format!("{} UTC", time::Date::from_julian_day(day as i32).unwrap())
        });
        let counted = db.sql(&format!(
            "SELECT used FROM tenancy.usage_counters WHERE tenant_id = '{tenant}' AND metric = '{metric}'
                AND period_start = '{period}'"
        ));
        assert_eq!(counted.parse().unwrap_or(0), *used, "{metric} {period}");
    }
    let drift = "SELECT count(*) FROM tenancy.usage_counters c JOIN tenancy.metrics m ON m.key = c.metric
        WHERE used <> (SELECT coalesce(CASE m.aggregation WHEN 'max' THEN max(amount) ELSE sum(amount) END, 0)
                         FROM tenancy.usage_events e
                        WHERE (e.tenant_id, e.metric, e.period_start) = (c.tenant_id, c.metric, c.period_start))";
    assert_eq!(db.sql(drift), "0");
}

#[tokio::test]
async fn batches_at_once_admit_exactly_the_limit() {
    let (db, tenants) = two_tenants().await;
    let db = std::sync::Arc::new(db);
    let mut tasks = JoinSet::new();
    for caller in 0..8_usize {
        let (db, tenants) = (db.clone(), tenants.clone());
        tasks.spawn(async move {
            let at = OffsetDateTime::now_utc();
            // Every key comes from two callers, in opposite orders, and both tenants' counters are wanted by all.
            let mut events: Vec<Event> = (0..40)
                .map(|n| Event {
                    tenant: TenantId(tenants[n % 2]),
                    metric: "hard".into(),
                    amount: 1,
                    key: Some(format!("{}-{n}", caller / 2)),
                    at,
                })
                .collect();
            if caller % 2 == 1 {
                events.reverse();
            }
            record(&db, &events).await.iter().filter(|answer| answer.verdict == Verdict::Accepted).count()
        });
    }
    let accepted: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(accepted, 60, "two tenants, thirty each");
    assert_eq!(
        db.sql("SELECT string_agg(used::text, ' ') FROM tenancy.usage_counters WHERE metric = 'hard'"),
        "30 30"
    );
    assert_eq!(
        db.sql("SELECT count(*), count(DISTINCT (tenant_id, key)) FROM tenancy.usage_events"),
        "60|60"
    );
}

#[tokio::test]
async fn a_tenant_that_goes_in_the_middle_takes_all_with_it() {
    let (db, tenants) = two_tenants().await;
    let at = OffsetDateTime::now_utc();
    let of = |tenant: usize, n: usize| Event {
        tenant: TenantId(tenants[tenant]),
        metric: "hard".into(),
        amount: 1,
        key: Some(n.to_string()),
        at,
    };
    record(&db, &[of(0, 1), of(1, 1)]).await;
    db.tenantctl(&["tenant", "suspend", "acme"]).expect(0);
    let answers = record(&db, &[of(0, 2), of(1, 2)]).await;
    let verdicts: Vec<Verdict> = answers.iter().map(|answer| answer.verdict).collect();
    assert_eq!(verdicts, [Verdict::Inactive, Verdict::Accepted]);

    // It is deleted for good by somebody who has not committed yet, while its events wait.
    db.tenantctl(&["tenant", "resume", "acme"]).expect(0);
    let mut session = db.session().await;
    let mut transaction = session.begin_as_owner().await.unwrap();
    sqlx::query("DELETE FROM tenancy.tenants WHERE slug = 'acme'").execute(&mut *transaction).await.unwrap();
    let events = [of(0, 3), of(1, 3)];
    let waiting = record(&db, &events);
    let then = async {
        db.blocked(1).await;
        transaction.commit().await.unwrap();
    };
    let (answers, ()) = tokio::join!(waiting, then);
    let verdicts: Vec<Verdict> = answers.iter().map(|answer| answer.verdict).collect();
    assert_eq!(verdicts, [Verdict::UnknownTenant, Verdict::Accepted]);
    assert_eq!(db.sql("SELECT count(*), count(DISTINCT tenant_id) FROM tenancy.usage_events"), "3|1");
}
