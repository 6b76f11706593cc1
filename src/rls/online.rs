//! `setup` for large tables in use: the same outcome, in steps that are committed one by one.
//!
//! No step keeps others waiting for longer than the lock timeout: what reads every row (building an index, proving a
//! reference, proving that no tenant is NULL) does it under a lock that only other changes of the table wait for, and
//! what needs more takes it for a moment, or gives way and tries again. Where a table stands is read from the catalogue
//! and from what was written down, so a run that was ended anywhere is completed by the next one.

mod harden;
mod keys;
mod pace;
mod script;
mod watch;

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use self::keys::{How, Standing};
use self::watch::{Observer, Watch, told};
use super::platform::{explain, look};
use super::protection::{Protection, Step, TableKind, TableProtection};
use super::setup::{Setup, Target, propose, targets};
use super::unfinished;
use crate::db::quote::trusted;
use crate::db::{Session, Transaction};
use crate::{Error, Result, audit};

pub use self::pace::Pace;
pub use self::script::plan;
pub use self::watch::{Blocker, Event};

/// How often what was found of a table may be out of date by the time it is acted on.
const ROUNDS: u32 = 8;

/// For what runs outside a transaction: names mean PostgreSQL's own, and the server notices where we are gone, as far as its
/// system can tell.
const BEGIN: &str = "SET search_path = pg_catalog, pg_temp; \
     DO $$ BEGIN PERFORM set_config('client_connection_check_interval', '1s', false); \
     EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$";

/// Undoes [`BEGIN`], and lets the next online setup begin.
const END: &str = "SELECT pg_advisory_unlock(hashtextextended('tenancy.isolation.online', 0)); RESET search_path; \
     RESET client_connection_check_interval; RESET lock_timeout; RESET statement_timeout";

const RUN_AGAIN: &str = "the steps that were finished stay: run the same command again, or raise --retries";

/// Brings the platform's tables under isolation, as the connecting role, and tells what it does. `watcher` is another
/// connection to the same database, for this alone.
///
/// # Errors
/// Those of [`setup`](super::setup::setup); [`Error::Conflict`] where a table stayed locked, or another such setup is at
/// work; [`Error::Invalid`] with `context`, or without a lock timeout. What was done until then stays.
pub async fn setup<'a>(
    session: &'a mut Session,
    watcher: &'a mut PgConnection,
    options: &Setup,
    pace: Pace,
    observe: &'a mut Observer<'a>,
) -> Result<Protection> {
    check(options)?;
    pace.check()?;
    session.lock_timeout = pace.lock_timeout;
    sqlx::raw_sql(BEGIN).execute(session.connection()).await?;
    sqlx::raw_sql("SET search_path = pg_catalog, pg_temp").execute(&mut *watcher).await?;
    let pid = sqlx::query_file_scalar!("sql/rls/online/pid.sql").fetch_one(session.connection()).await?;
    let watch = Watch::new(watcher, pid, pace, observe);
    let mut online = Online { session, watch, pace };
    online.alone().await?;
    let done = online.run(options).await;
    // Where the connection is gone, so is all that this undoes.
    let ended = sqlx::raw_sql(END).execute(online.session.connection()).await;
    let done = done?;
    ended?;
    Ok(done)
}

/// What holds for a plan as well.
fn check(options: &Setup) -> Result<()> {
    options.check_enabled()?;
    if options.context.is_some() {
        return Err(Error::Invalid {
            field: "combination",
            value: "--online --context".into(),
            reason: "the mode of the context is the database's, and changes in one transaction".into(),
            hint: Some(
                "set up with --online first, then `rls setup --context` alone: it scans no table".into(),
            ),
        });
    }
    Ok(())
}

/// Whether a step of the plan is one that [`keys`] takes apart.
fn is_key(step: &Step) -> bool {
    step.statement.is_some() && matches!(step.action.as_str(), "index" | "foreign_key" | "not_null")
}

/// The tenant column of a table whose keys are its own: a partition has them from its parent.
fn key_column(target: &Target) -> Option<&str> {
    match target.kind {
        TableKind::Tenant | TableKind::Child => target.tenant_column.as_deref(),
        _ => None,
    }
}

async fn planned(tx: &mut PgConnection, target: &Target, options: &Setup) -> Result<Vec<Step>> {
    sqlx::query_file_as!(
        Step,
        "sql/rls/plan.sql",
        target.relation,
        target.declared_kind(),
        target.tenant_column,
        options.admin_bypass
    )
    .fetch_all(tx)
    .await
    .map_err(|error| explain(error, &target.name))
}

struct Online<'a> {
    session: &'a mut Session,
    watch: Watch<'a>,
    pace: Pace,
}

/// How a step ended that did not fail.
enum Ended {
    Done,
    /// What it was to do is no longer what the table lacks.
    Outdated,
}

impl<'a> Online<'a> {
    async fn run(&mut self, options: &Setup) -> Result<Protection> {
        let (targets, notes) = self
            .again("the control plane", async |session| {
                let mut tx = session.begin_checked().await?;
                sqlx::query_file_scalar!("sql/rls/forget_dropped.sql").fetch_one(&mut *tx).await?;
                let found = targets(&mut tx, options).await?;
                tx.commit().await?;
                Ok(found)
            })
            .await?;
        let mut tables = Vec::with_capacity(targets.len());
        for (done, target) in targets.iter().enumerate() {
            (self.watch.observe)(Event::Table { done, of: targets.len(), name: &target.name });
            tables.push(self.table(target, options).await?);
        }
        let mut notes = notes;
        let mut database = TableProtection::new("database".into(), TableKind::Database);
        if options.harden {
            notes.extend(self.harden(&targets, &mut tables, options).await?);
            if options.tables.is_empty() {
                database.extend(self.harden_database().await?);
            }
        } else {
            let mut tx = self.session.begin_checked().await?;
            propose(&mut tx, &targets, &mut tables).await?;
            tx.commit().await?;
        }
        if let Some(mode) = options.on_new_table {
            let steps = self
                .again("database", async |session| {
                    let mut tx = session.begin_checked().await?;
                    let steps = sqlx::query_file_as!(
                        Step,
                        "sql/rls/guard.sql",
                        mode.as_str(),
                        &options.tenant_columns
                    )
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(|error| explain(error, "database"))?;
                    if steps.iter().any(|step| step.statement.is_some()) {
                        record(&mut tx, "database").await?;
                    }
                    tx.commit().await?;
                    Ok(steps)
                })
                .await?;
            database.extend(steps);
        }
        tables.extend(database.told());
        Ok(Protection { tables, notes })
    }

    async fn table(&mut self, target: &Target, options: &Setup) -> Result<TableProtection> {
        let mut carried_out = Vec::new();
        for _ in 0..ROUNDS {
            if let Some(column) = key_column(target) {
                let steps = self.keys(target, column, options).await?;
                if !steps.is_empty() {
                    for step in steps {
                        match self.step(target, &step).await? {
                            Ended::Done => carried_out.extend(script::planned_as(&step)),
                            Ended::Outdated => break,
                        }
                    }
                    // What they left to do, and what of it stood in the way, the next round sees.
                    continue;
                }
            }
            if let Some(rest) = self.finish(target, options, !carried_out.is_empty()).await? {
                carried_out.extend(rest);
                return Ok(target.outcome(carried_out));
            }
        }
        Err(busy(&target.name, "changes faster than it can be set up".into()))
    }

    /// What the table's keys lack.
    async fn keys(&mut self, target: &Target, column: &str, options: &Setup) -> Result<Vec<keys::Step>> {
        self.again(&target.name, async |session| {
            let mut tx = session.begin_checked().await?;
            let planned = planned(&mut tx, target, options).await?;
            let mut look = look(&mut tx).await?;
            let standing = Standing::load(&mut look, target.relation, column).await?;
            look.rollback().await?;
            tx.commit().await?;
            if let Some(pid) = standing.builder() {
                return Err(busy(&target.name, format!("has an index that pid {pid} is building")));
            }
            Ok(standing.steps(&planned))
        })
        .await
    }

    async fn step(&mut self, target: &Target, step: &keys::Step) -> Result<Ended> {
        for statement in step.how.statements() {
            (self.watch.observe)(Event::Step { table: &target.name, statement });
        }
        let done = match &step.how {
            How::Brief(statements) => self.brief(target, &[step.relation], statements).await,
            How::Swap { statements, touched, .. } => self.brief(target, touched, statements).await,
            How::Proof(statement, touched) => return self.prove(target, statement, touched).await,
            How::Scan(statement, undo) => {
                let scanned = self
                    .again(&target.name, async |session| {
                        let mut tx = session.begin_checked().await?;
                        execute(&mut tx, statement).await?;
                        tx.commit().await
                    })
                    .await;
                match scanned {
                    // A row came in the way since they were counted.
                    Err(error) if matches!(pace::state(&error).as_deref(), Some("23503" | "23514")) => {
                        self.brief(target, &[step.relation], std::slice::from_ref(undo)).await?;
                        return Ok(Ended::Outdated);
                    }
                    other => other,
                }
            }
            How::Concurrent(statement) => self.concurrently(&target.name, statement).await,
            How::Index { name, statement } => {
                sqlx::query_file!("sql/rls/online/announce.sql", step.relation, name, statement)
                    .execute(self.session.connection())
                    .await?;
                self.concurrently(&target.name, statement).await
            }
        };
        match done {
            Ok(()) => Ok(Ended::Done),
            // The name was taken, the constraint dropped, or two index builds waited for each other.
            Err(error)
                if matches!(pace::state(&error).as_deref(), Some("42P07" | "42710" | "42704" | "40P01")) =>
            {
                Ok(Ended::Outdated)
            }
            Err(error) => Err(error),
        }
    }

    /// Statements whose locks others queue behind, in one transaction that writes down what they changed.
    async fn brief(&mut self, target: &Target, touched: &[Oid], statements: &[String]) -> Result<()> {
        let pace = self.pace;
        self.again(&target.name, async |session| {
            let mut tx = begin_change(session).await?;
            let before =
                sqlx::query_file_scalar!("sql/rls/online/facts.sql", touched).fetch_one(&mut *tx).await?;
            if touched.len() > 1 {
                yield_early(&mut tx, pace).await?;
            }
            hurry(&mut tx, pace, &target.name, statements.iter().map(String::as_str)).await?;
            sqlx::query_file_scalar!("sql/rls/online/remember.sql", touched, before)
                .fetch_one(&mut *tx)
                .await?;
            for relation in touched {
                unfinished::own(&mut tx, *relation).await?;
            }
            tx.commit().await
        })
        .await
    }

    /// What cannot run in a transaction. Nobody queues behind it but other changes of the table, and giving up on it costs
    /// what it did so far: it has the patience of all tries.
    async fn concurrently(&mut self, table: &str, statement: &str) -> Result<()> {
        let patience = self.pace.patience().as_millis();
        let limit = self.session.statement_timeout.as_millis();
        let connection = self.session.connection();
        let work = async {
            let settings = format!("SET lock_timeout = {patience}; SET statement_timeout = {limit}");
            sqlx::raw_sql(trusted(settings)).execute(&mut *connection).await?;
            sqlx::raw_sql(trusted(statement.to_owned())).execute(&mut *connection).await?;
            Ok(())
        };
        let done = self.watch.during(table, true, work).await;
        match done {
            Err(error) if pace::state(&error).as_deref() == Some("55P03") => Err(self.gave_up(table, error)),
            other => other,
        }
    }

    /// All but the keys, in one transaction: nobody ever sees a part of it. `None` where the keys lack something again.
    async fn finish(
        &mut self,
        target: &Target,
        options: &Setup,
        carried_out: bool,
    ) -> Result<Option<Vec<Step>>> {
        let pace = self.pace;
        let steps = self
            .again(&target.name, async |session| {
                let mut tx = begin_change(session).await?;
                let steps = planned(&mut tx, target, options).await?;
                if steps.iter().any(is_key) {
                    return Ok(None);
                }
                let family = sqlx::query_file_scalar!("sql/rls/family.sql", target.relation)
                    .fetch_all(&mut *tx)
                    .await?;
                let statements: Vec<&str> =
                    steps.iter().filter_map(|step| step.statement.as_deref()).collect();
                if !statements.is_empty() {
                    let before = sqlx::query_file_scalar!("sql/rls/online/facts.sql", &[target.relation])
                        .fetch_one(&mut *tx)
                        .await?;
                    hurry(&mut tx, pace, &target.name, statements.iter().copied()).await?;
                    sqlx::query_file_scalar!("sql/rls/online/remember.sql", &[target.relation], before)
                        .fetch_one(&mut *tx)
                        .await?;
                }
                sqlx::query_file!("sql/rls/online/settle.sql", &family).execute(&mut *tx).await?;
                if carried_out || !statements.is_empty() {
                    record(&mut tx, &target.name).await?;
                }
                tx.commit().await?;
                Ok(Some(steps))
            })
            .await?;
        Ok(steps)
    }

    /// Waits until no other online setup is at work.
    async fn alone(&mut self) -> Result<()> {
        let mut failed = 0;
        loop {
            let locked = sqlx::query_file_scalar!("sql/rls/online/try_lock.sql")
                .fetch_one(self.session.connection())
                .await?;
            if locked {
                return Ok(());
            }
            let holders = sqlx::query_file_as!(Blocker, "sql/rls/online/holder.sql")
                .fetch_all(self.session.connection())
                .await?;
            if failed == self.pace.retries {
                return Err(Error::Conflict {
                    kind: "setup",
                    name: "--online".into(),
                    reason: format!("is at work already: {}", told(&holders)),
                    hint: Some("wait for it to end, and run the same command again".into()),
                });
            }
            failed += 1;
            let pause = self.pace.pause(failed);
            (self.watch.observe)(Event::Waiting {
                table: "database",
                blockers: &holders,
                pause: Some(pause),
            });
            tokio::time::sleep(pause).await;
        }
    }

    /// Tries until nobody is in the way, or the tries are used up.
    async fn again<T>(
        &mut self,
        table: &str,
        mut work: impl AsyncFnMut(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let mut failed = 0;
        loop {
            match self.watch.during(table, false, work(self.session)).await {
                Err(error) if !pace::is_busy(&error) => return Err(error),
                Err(error) if failed == self.pace.retries => return Err(self.gave_up(table, error)),
                Err(_) => {}
                Ok(done) => return Ok(done),
            }
            failed += 1;
            let pause = self.pace.pause(failed);
            (self.watch.observe)(Event::Waiting {
                table,
                blockers: &self.watch.blockers,
                pause: Some(pause),
            });
            tokio::time::sleep(pause).await;
        }
    }

    fn gave_up(&self, table: &str, last: Error) -> Error {
        let reason = match last {
            Error::Conflict { reason, .. } => reason,
            _ => format!("stayed locked by others in {} tries", u64::from(self.pace.retries) + 1),
        };
        let blockers = match self.watch.blockers.as_slice() {
            [] => String::new(),
            some => format!("; in the way is {}", told(some)),
        };
        busy(table, format!("{reason}{blockers}"))
    }
}

fn busy(table: &str, reason: String) -> Error {
    Error::Conflict { kind: "table", name: table.to_owned(), reason, hint: Some(RUN_AGAIN.into()) }
}

/// A transaction in which names mean PostgreSQL's own.
async fn begin(session: &mut Session) -> Result<Transaction<'_>> {
    let mut tx = session.begin_checked().await?;
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog, pg_temp").execute(&mut *tx).await?;
    Ok(tx)
}

/// One that changes tables: one setup at a time.
async fn begin_change(session: &mut Session) -> Result<Transaction<'_>> {
    let mut tx = begin(session).await?;
    sqlx::query_file_scalar!("sql/rls/lock.sql").fetch_one(&mut *tx).await?;
    Ok(tx)
}

/// Statements that others queue behind: each has the time that it may keep them waiting, locks and all.
async fn hurry(
    tx: &mut Transaction<'_>,
    pace: Pace,
    table: &str,
    statements: impl Iterator<Item = &str>,
) -> Result<()> {
    let limit = format!("SET LOCAL statement_timeout = {}", pace.lock_timeout.as_millis());
    sqlx::raw_sql(trusted(limit)).execute(&mut **tx).await?;
    for statement in statements {
        execute(tx, statement).await.map_err(|error| match pace::state(&error).as_deref() {
            Some("57014") => busy(
                table,
                "could not be changed within the lock timeout, which a longer --lock-timeout gives it".into(),
            ),
            _ => error,
        })?;
    }
    Ok(())
}

/// Where several tables are locked, those who hold one and wait for the other meet us: we give way before PostgreSQL looks for
/// a deadlock, so it never ends a transaction of theirs.
async fn yield_early(tx: &mut Transaction<'_>, pace: Pace) -> Result<()> {
    let limit = format!("SET LOCAL lock_timeout = {}", pace.early().as_millis());
    sqlx::raw_sql(trusted(limit)).execute(&mut **tx).await?;
    Ok(())
}

async fn execute(tx: &mut Transaction<'_>, statement: &str) -> Result<()> {
    sqlx::raw_sql(trusted(statement.to_owned())).execute(&mut **tx).await?;
    Ok(())
}

async fn record(tx: &mut Transaction<'_>, table: &str) -> Result<()> {
    audit::record(tx, "rls.setup", None, serde_json::json!({ "tables": [table], "online": true })).await
}
