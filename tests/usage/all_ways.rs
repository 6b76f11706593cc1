//! Every way in at once, against one limit, while processes are killed and connections lost: the limit is reached and never
//! passed, what was acknowledged is there, and what was refused is not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tempfile::TempDir;
use tenancy::db::Session;
use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::{TenantId, TenantRef};
use tenancy::usage::{self, Event, Recorded, RecorderOptions, Reserve, Track, UsageRecorder, Verdict};
use tenancy::{Error, ErrorKind, Result};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, LocalSet, spawn_blocking};

use super::recorder::{acme, one, pool_of};
use crate::common::{Database, Run, execute, run};

/// What all ways together may use; they try for twice as much.
const LIMIT: usize = 750;
/// What a table may hold that is metered meanwhile.
const PEOPLE: usize = 120;
/// How many processes run at a time: other tests want connections, too.
const PROCESSES: usize = 32;
/// How `tenantctl` ends where it lost its connection.
const UNREACHABLE: i32 = 7;

/// A platform that counts the rows of a table by a trigger of its own, and those of another one by a meter.
const TABLES: &str = "
    CREATE TABLE public.orders (key text PRIMARY KEY, tenant_id uuid NOT NULL);
    CREATE FUNCTION public.count_order() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        decided text := (SELECT outcome FROM tenancy.track_usage(NEW.tenant_id, 'events', 1, NEW.key));
    BEGIN
        IF decided = 'rejected' THEN
            RAISE EXCEPTION 'no more orders' USING ERRCODE = 'TN007';
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER count_order AFTER INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.count_order();
    CREATE TABLE public.people (key text PRIMARY KEY, tenant_id uuid NOT NULL);";

/// Keys, and whether what they stand for was recorded.
type Answers = Vec<(String, bool)>;

struct World {
    db: Arc<Database>,
    tenant: TenantId,
    login: String,
}

fn slug() -> TenantRef {
    TenantRef::Slug("acme".into())
}

fn lost(error: &Error) -> bool {
    error.kind() == ErrorKind::Unreachable
}

/// Whether it was recorded, where the limit alone may refuse it.
fn admitted<T>(answer: Result<T>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.kind() == ErrorKind::LimitExceeded => None,
        Err(error) => panic!("{error:?}"),
    }
}

fn recorded(answer: Recorded) -> bool {
    assert!(answer.verdict.is_recorded() || answer.verdict == Verdict::Rejected, "{answer:?}");
    answer.verdict.is_recorded()
}

/// Does the same again on a new connection for as long as connections are lost.
async fn insist<T>(
    world: &World,
    session: &mut Option<Session>,
    mut work: impl AsyncFnMut(&mut Session) -> Result<T>,
) -> Result<T> {
    loop {
        let current = match session {
            Some(current) => current,
            None => match world.db.options.connect().await.map_err(Error::from) {
                Ok(connection) => session.insert(Session::new(connection)),
                Err(error) if lost(&error) => continue,
                Err(error) => return Err(error),
            },
        };
        match work(current).await {
            Err(error) if lost(&error) => *session = None,
            answer => return answer,
        }
    }
}

/// Runs a command, kills it after each of these times, in milliseconds, and then lets it run for as often as its
/// connection is lost.
fn insist_on(db: &Database, arguments: &[&str], kills: &[u64]) -> Run {
    for kill in kills {
        let mut command = db.command();
        let mut child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(*kill));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    loop {
        let run = run(db.command().args(arguments));
        if run.code != UNREACHABLE {
            return run;
        }
    }
}

async fn record_one_by_one(world: Rc<World>, recorder: Arc<UsageRecorder>, caller: usize) -> Answers {
    let mut answers = Answers::new();
    for n in 0..12 {
        let key = format!("recorder-{caller}-{n}");
        let answer = recorder.track(one(world.tenant, Some(key.clone()))).await.unwrap();
        answers.push((key, recorded(answer)));
    }
    answers
}

/// Half of it comes once no reservation is left that could be given back: whatever is free then is taken.
async fn track(world: Rc<World>, caller: usize, mut reservations: watch::Receiver<()>) -> Answers {
    let mut session = None;
    let mut answers = Answers::new();
    for n in 0..20 {
        if n == 10 {
            assert!(reservations.changed().await.is_err(), "nobody sends anything");
        }
        let key = format!("track-{caller}-{n}");
        let wanted = Track { metric: "events".into(), amount: "1".into(), key: Some(key.clone()), at: None };
        let answer = insist(&world, &mut session, async |session| {
            let mut transaction = session.begin_as_owner().await?;
            usage::track(&mut transaction, &slug(), &wanted, &EnvironmentLimits::default()).await?;
            transaction.commit().await
        });
        answers.push((key, admitted(answer.await).is_some()));
    }
    answers
}

async fn record_batches(world: Rc<World>, caller: usize) -> Answers {
    let mut session = None;
    let mut answers = Answers::new();
    for round in 0..8 {
        let at = OffsetDateTime::now_utc();
        let event = |n| Event {
            tenant: world.tenant,
            metric: "events".into(),
            amount: 1,
            key: Some(format!("batch-{caller}-{round}-{n}")),
            at,
        };
        let events: Vec<Event> = (0..10).map(event).collect();
        let told = insist(&world, &mut session, async |session| {
            let mut transaction = session.begin_as_owner().await?;
            let told = usage::record(&mut transaction, &events, at, &EnvironmentLimits::default()).await?;
            transaction.commit().await?;
            Ok(told)
        });
        let told = told.await.unwrap();
        assert_eq!(told.len(), events.len());
        answers.extend(events.into_iter().zip(told).map(|(e, told)| (e.key.unwrap(), recorded(told))));
    }
    answers
}

/// Holds 3, then uses 2 of them or none.
async fn reserve(world: Rc<World>, caller: usize, _held: Arc<watch::Sender<()>>) -> Answers {
    let mut session = None;
    let mut answers = Answers::new();
    for n in 0..6 {
        let key = format!("reserve-{caller}-{n}");
        let wanted = Reserve {
            metric: "events".into(),
            amount: "3".into(),
            ttl: Duration::from_secs(3600),
            key: Some(key.clone()),
        };
        let reserved = insist(&world, &mut session, async |session| {
            let mut transaction = session.begin_as_owner().await?;
            let reserved =
                usage::reserve(&mut transaction, &slug(), &wanted, &EnvironmentLimits::default()).await?;
            transaction.commit().await?;
            Ok(reserved)
        });
        let Some(reserved) = admitted(reserved.await) else {
            answers.push((key, false));
            continue;
        };
        let (id, use_it) = (reserved.reservation.unwrap(), !(caller + n).is_multiple_of(3));
        let closed = insist(&world, &mut session, async |session| {
            let mut transaction = session.begin_as_owner().await?;
            if use_it {
                usage::commit(&mut transaction, &slug(), id, Some("2")).await?;
            } else {
                usage::release(&mut transaction, &slug(), id).await?;
            }
            transaction.commit().await
        });
        closed.await.unwrap();
        answers.push((key, use_it));
    }
    answers
}

/// The same by processes.
fn reserve_by_process(db: &Database, caller: usize) -> Answers {
    let key = format!("held-{caller}");
    let kill = [40 + 60 * caller as u64];
    let held = insist_on(
        db,
        &["usage", "reserve", "acme", "--metric=events", "--amount=3", "--key", &key, "-o", "json"],
        &kill,
    );
    if held.code == 6 {
        return vec![(key, false)];
    }
    let id = held.expect(0).json()["reservation"].as_str().unwrap().to_owned();
    let verb = if caller.is_multiple_of(2) { "commit" } else { "release" };
    insist_on(db, &["usage", verb, "acme", &id], &kill).expect(0);
    vec![(key, verb == "commit")]
}

fn track_by_process(db: &Database, caller: usize) -> Answers {
    let key = format!("process-{caller}");
    // A third of them die once, at any moment between their start and their answer.
    let kills = [(caller * 37 % 400) as u64];
    let kills = if caller.is_multiple_of(3) { &kills[..] } else { &[] };
    let run = insist_on(db, &["usage", "track", "acme", "--metric", "events", "--key", &key], kills);
    assert!([0, 6].contains(&run.code), "{run:?}");
    vec![(key, run.code == 0)]
}

/// Three files, one after the other.
fn ingest(db: &Database, dir: &Path, caller: usize) -> Answers {
    let mut answers = Answers::new();
    for file in 0..3 {
        let key = |line: u64| format!("file-{caller}-{file}-{line}");
        let line = |n| format!("{{\"tenant\":\"acme\",\"metric\":\"events\",\"key\":\"{}\"}}\n", key(n));
        let path = dir.join(format!("{caller}-{file}.ndjson"));
        std::fs::write(&path, (1..=30).map(line).collect::<String>()).unwrap();
        let results = dir.join(format!("{caller}-{file}.results"));
        let arguments = ["usage", "ingest", path.to_str().unwrap(), "--results", results.to_str().unwrap()];
        let run = insist_on(db, &arguments, &[60 + 40 * caller as u64, 300 - 60 * caller as u64]);
        assert!([0, 5].contains(&run.code), "{run:?}");
        for told in std::fs::read_to_string(results).unwrap().lines() {
            let told: Value = serde_json::from_str(told).unwrap();
            let accepted = match told["outcome"].as_str().unwrap() {
                "accepted" | "duplicate" => true,
                "rejected" => false,
                other => panic!("{other}: {told}"),
            };
            answers.push((key(told["line"].as_u64().unwrap()), accepted));
        }
    }
    answers
}

/// Writes rows as the application role in the tenant's context; false where the limit refused them.
async fn insert(pool: &PgPool, tenant: TenantId, sql: &'static str, keys: &[String]) -> bool {
    loop {
        let written: Result<(), sqlx::Error> = async {
            let mut transaction = pool.begin().await?;
            sqlx::query("SELECT set_config('app.current_tenant_id', $1, true)")
                .bind(tenant.to_string())
                .execute(&mut *transaction)
                .await?;
            // A row that is there was committed, and the answer lost.
            sqlx::query(sql).bind(keys).bind(tenant.0).execute(&mut *transaction).await?;
            transaction.commit().await
        }
        .await;
        match written.map_err(Error::from) {
            Ok(()) => return true,
            Err(error) if lost(&error) => {}
            Err(error) => {
                assert_eq!(error.details()["sqlstate"], "TN007", "{error:?}");
                return false;
            }
        }
    }
}

async fn order(world: Rc<World>, caller: usize) -> Answers {
    let pool = pool_of(&world.db, &world.login);
    let mut answers = Answers::new();
    for n in 0..25 {
        let keys: Vec<String> = (0..1 + n % 2).map(|row| format!("order-{caller}-{n}-{row}")).collect();
        let sql = "INSERT INTO public.orders (key, tenant_id) SELECT k, $2 FROM unnest($1) k ON CONFLICT DO NOTHING";
        let fits = insert(&pool, world.tenant, sql, &keys).await;
        answers.extend(keys.into_iter().map(|key| (key, fits)));
    }
    answers
}

/// Writes to the metered table until it is full: two rows at a time, and one where two no longer fit.
async fn join(world: Rc<World>, caller: usize) -> Answers {
    let pool = pool_of(&world.db, &world.login);
    let mut answers = Answers::new();
    let mut rows = 2;
    for n in 0.. {
        let keys: Vec<String> = (0..rows).map(|row| format!("{caller}-{n}-{row}")).collect();
        let sql = "INSERT INTO public.people (key, tenant_id) SELECT k, $2 FROM unnest($1) k ON CONFLICT DO NOTHING";
        let fits = insert(&pool, world.tenant, sql, &keys).await;
        answers.extend(keys.into_iter().map(|key| (key, fits)));
        if !fits {
            rows -= 1;
        }
        if rows == 0 {
            break;
        }
    }
    answers
}

/// Ends one backend after the other, whoever it works for, and sees at every moment what a limit allows.
async fn kill_connections(mut connection: PgConnection, killed: &mut u64) {
    let victim = "SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
         ORDER BY random() LIMIT 1) v";
    let wrong = "SELECT count(*) FROM tenancy.usage_counters c
        WHERE used NOT BETWEEN 0 AND limit_value OR used <> CASE metric
              WHEN 'events' THEN (SELECT coalesce(sum(amount), 0) FROM tenancy.usage_events)
                               + (SELECT coalesce(sum(amount), 0) FROM tenancy.usage_reservations WHERE state = 'open')
              ELSE (SELECT count(*) FROM public.people) END";
    loop {
        let ended: i64 = sqlx::query_scalar(victim).fetch_one(&mut connection).await.unwrap();
        *killed += ended as u64;
        let wrong: i64 = sqlx::query_scalar(wrong).fetch_one(&mut connection).await.unwrap();
        assert_eq!(wrong, 0, "counters are beside the truth after {killed} lost connections");
        tokio::time::sleep(Duration::from_millis(5 + *killed * 7 % 30)).await;
    }
}

async fn platform() -> World {
    let db = Database::with_acme("enterprise").await;
    db.sql(&format!(
        "UPDATE tenancy.plan_limits SET limit_value = CASE metric WHEN 'events' THEN {LIMIT} ELSE {PEOPLE} END
          WHERE plan = 'enterprise' AND metric IN ('events', 'participants')"
    ));
    execute(&db.options, TABLES).await;
    db.tenantctl(&["rls", "setup"]).expect(0);
    db.tenantctl(&["usage", "meter", "attach", "participants", "--table", "people"]).expect(0);
    World { tenant: acme(&db), login: db.app_login(), db: Arc::new(db) }
}

/// All ways in: what came of every key of theirs, and of the metered table's.
async fn all_ways(world: &Rc<World>, dir: &Arc<TempDir>) -> (BTreeMap<String, bool>, BTreeMap<String, bool>) {
    let recorder = Arc::new(UsageRecorder::start(
        pool_of(&world.db, &world.login),
        RecorderOptions { patience: Duration::from_secs(60), ..RecorderOptions::default() },
    ));
    let mut ways: JoinSet<Answers> = JoinSet::new();
    let (held, reservations) = watch::channel(());
    let held = Arc::new(held);
    for caller in 0..24 {
        ways.spawn_local(record_one_by_one(Rc::clone(world), Arc::clone(&recorder), caller));
    }
    for caller in 0..16 {
        ways.spawn_local(track(Rc::clone(world), caller, reservations.clone()));
    }
    for caller in 0..8 {
        ways.spawn_local(reserve(Rc::clone(world), caller, Arc::clone(&held)));
        ways.spawn_local(order(Rc::clone(world), caller));
    }
    for caller in 0..4 {
        ways.spawn_local(record_batches(Rc::clone(world), caller));
    }
    for caller in 0..4 {
        let (db, dir) = (Arc::clone(&world.db), Arc::clone(dir));
        ways.spawn_blocking(move || ingest(&db, dir.path(), caller));
        let (db, held) = (Arc::clone(&world.db), Arc::clone(&held));
        ways.spawn_blocking(move || {
            let _until_it_is_closed = held;
            reserve_by_process(&db, caller)
        });
    }
    drop(held);
    let room = Arc::new(Semaphore::new(PROCESSES));
    for caller in 0..64 {
        let (db, room) = (Arc::clone(&world.db), Arc::clone(&room));
        ways.spawn_local(async move {
            let _place = room.acquire().await.unwrap();
            spawn_blocking(move || track_by_process(&db, caller)).await.unwrap()
        });
    }
    let mut people: JoinSet<Answers> = JoinSet::new();
    for caller in 0..6 {
        people.spawn_local(join(Rc::clone(world), caller));
    }
    let (ways, people) = tokio::join!(ways.join_all(), people.join_all());
    recorder.close().await;
    let by_key =
        |answers: Vec<Answers>| -> BTreeMap<String, bool> { answers.into_iter().flatten().collect() };
    (by_key(ways), by_key(people))
}

fn accepted(answers: &BTreeMap<String, bool>) -> BTreeSet<&str> {
    answers.iter().filter(|(_, accepted)| **accepted).map(|(key, _)| key.as_str()).collect()
}

#[tokio::test]
async fn all_ways_at_once_admit_exactly_the_limit() {
    let world = Rc::new(platform().await);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let connection = world.db.options.connect().await.unwrap();
    let mut killed = 0;
    let (answers, people) = LocalSet::new()
        .run_until(async {
            tokio::select! {
                () = kill_connections(connection, &mut killed) => unreachable!("it has no end"),
                answers = all_ways(&world, &dir) => answers,
            }
        })
        .await;
    assert!(killed > 0);
    assert!(answers.len() > LIMIT * 2, "{} calls", answers.len());

    let db = &world.db;
    db.quiet().await;
    let events = "SELECT used, (SELECT sum(amount) FROM tenancy.usage_events) FROM tenancy.usage_counters WHERE metric = 'events'";
    assert_eq!(db.sql(events), format!("{LIMIT}|{LIMIT}"));
    assert_eq!(db.sql("SELECT count(*) FROM tenancy.usage_reservations WHERE state = 'open'"), "0");
    let people_used = "SELECT used, (SELECT count(*) FROM public.people) FROM tenancy.usage_counters WHERE metric = 'participants'";
    assert_eq!(db.sql(people_used), format!("{PEOPLE}|{PEOPLE}"));
    // What was acknowledged is there, once, and nothing else is.
    for (keys, answers) in
        [("SELECT key FROM tenancy.usage_events", &answers), ("SELECT key FROM public.people", &people)]
    {
        let keys = db.sql(keys);
        let (there, accepted) = (keys.lines().collect::<BTreeSet<_>>(), accepted(answers));
        assert_eq!(keys.lines().count(), there.len(), "a key is there twice");
        let missing: Vec<_> = accepted.difference(&there).collect();
        let strange: Vec<_> = there.difference(&accepted).collect();
        assert!(missing.is_empty(), "accepted, and not there: {missing:?}");
        assert!(strange.is_empty(), "there, and not accepted: {strange:?}");
    }
    let orders = "SELECT count(*) FROM public.orders o FULL JOIN (SELECT * FROM tenancy.usage_events WHERE key LIKE 'order-%') e
                      ON e.key = o.key WHERE o.key IS NULL OR e.key IS NULL";
    assert_eq!(db.sql(orders), "0", "an order and its count stand and fall together");
    db.tenantctl(&["usage", "reconcile", "--detect"]).expect(0);
}
