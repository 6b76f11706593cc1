//! Usage from a file: many lines, each with an answer of its own.

mod lines;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use self::lines::{Chunk, Fault, Line};
use super::record::{Batch, Recorded, Verdict};
use crate::db::{Session, Transaction};
use crate::plan::EnvironmentLimits;
use crate::{Error, Result};

/// Events of one statement and transaction: about half a second's work.
const BATCH: usize = 50_000;

/// How often a batch is tried that another transaction stood in the way of.
const ATTEMPTS: u32 = 5;

/// Where the lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// How lines are written. A file that begins as a gzip file does is unpacked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line, with `tenant`, `metric` and, if need be, `amount` (1), `key` and `at` (now).
    Ndjson,
    /// Columns of these names, which the first line gives.
    Csv,
}

/// How to ingest.
#[derive(Debug, Clone)]
pub struct Options {
    /// How lines are written; none to go by how they begin.
    pub format: Option<Format>,
    /// Names the batch: a line without a key gets one of this and its number, so that the same batch again counts once.
    /// None for a digest of the file; lines of standard input have no key then.
    pub batch: Option<String>,
    /// How long ago usage may have happened.
    pub window: Duration,
    /// Whether all of it is undone in the end.
    pub dry_run: bool,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was recorded.
    Accepted,
    /// It was recorded, and more is used now than a limit that is soft allows.
    OverSoftLimit,
    /// It was recorded before.
    Duplicate,
    /// The limit did not allow it, it would have released more than is used, or the tenant is not active.
    Rejected,
    /// There is no such tenant.
    UnknownTenant,
    /// There is no such metric.
    UnknownMetric,
    /// It happened too long ago.
    TooOld,
    /// The line cannot be usage, whatever the limits are.
    Invalid,
}

/// The answer to a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineResult {
    /// Number of the line; the first is 1.
    pub line: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, where the outcome does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was used then, where the limit decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<i64>,
    /// The limit that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// How many lines came to what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines that were read, without empty ones.
    pub lines: u64,
    /// Recorded.
    pub accepted: u64,
    /// Recorded, over a limit that is soft.
    pub over_soft_limit: u64,
    /// Recorded before.
    pub duplicate: u64,
    /// Not allowed by a limit, or of a tenant that is not active.
    pub rejected: u64,
    /// Of no tenant.
    pub unknown_tenant: u64,
    /// Of no metric.
    pub unknown_metric: u64,
    /// Too long ago.
    pub too_old: u64,
    /// No usage.
    pub invalid: u64,
    /// Without a key, and recorded again by whoever ingests them again.
    pub without_key: u64,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.lines += 1;
        *match outcome {
            Outcome::Accepted => &mut self.accepted,
            Outcome::OverSoftLimit => &mut self.over_soft_limit,
            Outcome::Duplicate => &mut self.duplicate,
            Outcome::Rejected => &mut self.rejected,
            Outcome::UnknownTenant => &mut self.unknown_tenant,
            Outcome::UnknownMetric => &mut self.unknown_metric,
            Outcome::TooOld => &mut self.too_old,
            Outcome::Invalid => &mut self.invalid,
        } += 1;
    }

    /// Lines that are not in the ledger.
    pub fn refused(&self) -> u64 {
        self.rejected + self.unknown_tenant + self.unknown_metric + self.too_old + self.invalid
    }
}

impl LineResult {
    fn of_fault(line: u64, fault: Fault) -> Self {
        let (outcome, reason) = match fault {
            Fault::Invalid(reason) => (Outcome::Invalid, Some(reason)),
            Fault::UnknownMetric => (Outcome::UnknownMetric, None),
        };
        Self { line, outcome, reason, used: None, limit: None }
    }

    fn of_answer(line: u64, answer: &Recorded) -> Self {
        let (outcome, reason) = match answer.verdict {
            Verdict::Accepted => (Outcome::Accepted, None),
            Verdict::OverSoftLimit => (Outcome::OverSoftLimit, None),
            Verdict::Duplicate => (Outcome::Duplicate, None),
            Verdict::Rejected => (Outcome::Rejected, None),
            Verdict::Inactive => (Outcome::Rejected, Some("the tenant is not active")),
            Verdict::UnknownTenant => (Outcome::UnknownTenant, None),
            Verdict::UnknownMetric => (Outcome::UnknownMetric, None),
            Verdict::TooOld => (Outcome::TooOld, None),
            Verdict::Conflict => {
                (Outcome::Invalid, Some("its key was used before, for another amount or metric"))
            }
            Verdict::NotReported => (Outcome::Invalid, Some("the metric is counted from elsewhere")),
            Verdict::TooNew => {
                (Outcome::Invalid, Some("it is more than an hour ahead of the server's clock"))
            }
            Verdict::InvalidAmount => {
                (Outcome::Invalid, Some("its amount is zero, or negative where the metric only grows"))
            }
            Verdict::InvalidKey => (Outcome::Invalid, Some("a key has 1 to 1024 bytes")),
        };
        let decided = matches!(
            outcome,
            Outcome::Accepted | Outcome::OverSoftLimit | Outcome::Rejected | Outcome::Duplicate
        );
        Self {
            line,
            outcome,
            reason: reason.map(str::to_owned),
            used: answer.used.filter(|_| decided),
            limit: answer.limit.filter(|_| decided),
        }
    }
}

/// Records the usage that a file tells of, in batches, each in a transaction of its own: whoever is stopped runs the same
/// again, and what was recorded is a duplicate then. Of every 250,000 lines those of one tenant and metric are decided
/// in the order in which they happened. `progress` hears how many bytes of how many were dealt with, `answer` what became
/// of each line.
///
/// # Errors
/// [`Error::Invalid`] where the file cannot be read, or is in no format that is known; what `answer` returns;
/// [`Error::Configuration`] where a variable of the environment holds no limit; [`Error::Database`]. What was recorded
/// before stays.
pub async fn ingest(
    session: &mut Session,
    input: &Input,
    options: &Options,
    environment: &EnvironmentLimits,
    mut progress: impl FnMut(u64, Option<u64>),
    mut answer: impl FnMut(&LineResult) -> Result<()>,
) -> Result<Summary> {
    let mut transaction = session.begin_as_owner().await?;
    let mut metrics = HashMap::new();
    for metric in sqlx::query_file!("sql/usage/metrics.sql").fetch_all(&mut *transaction).await? {
        metrics.insert(metric.key, metric.unit.parse()?);
    }
    transaction.rollback().await?;

    let now = OffsetDateTime::now_utc();
    let oldest = now - options.window;
    let mut chunks = lines::read(input.clone(), options.format, options.batch.clone(), metrics, now)?;
    let mut summary = Summary::default();
    // A dry run is one transaction from beginning to end: what comes later meets what came before.
    if options.dry_run {
        let mut transaction = session.begin_as_owner().await?;
        while let Some(chunk) = chunks.recv().await {
            let mut prepared = Prepared::of(&mut transaction, chunk?).await?;
            let mut results = prepared.faults();
            while let Some(batch) = prepared.next_batch() {
                results.extend(batch.record(&mut transaction, oldest, environment).await?);
            }
            prepared.tell(results, &mut summary, &mut answer)?;
            progress(prepared.chunk.bytes, prepared.chunk.of_bytes);
        }
        transaction.rollback().await?;
        return Ok(summary);
    }
    while let Some(chunk) = chunks.recv().await {
        let mut transaction = session.begin_as_owner().await?;
        let mut prepared = Prepared::of(&mut transaction, chunk?).await?;
        transaction.rollback().await?;
        let mut results = prepared.faults();
        while let Some(batch) = prepared.next_batch() {
            let mut attempt = 1;
            results.extend(loop {
                match once(session, &batch, oldest, environment).await {
                    Err(error) if attempt < ATTEMPTS && in_the_way(&error) => attempt += 1,
                    other => break other?,
                }
            });
        }
        flush(session).await?;
        prepared.tell(results, &mut summary, &mut answer)?;
        progress(prepared.chunk.bytes, prepared.chunk.of_bytes);
    }
    Ok(summary)
}

/// Commits without waiting for the disk: nobody is told before [`flush`].
async fn once(
    session: &mut Session,
    batch: &Numbered,
    oldest: OffsetDateTime,
    environment: &EnvironmentLimits,
) -> Result<Vec<LineResult>> {
    let mut transaction = session.begin_as_owner().await?;
    sqlx::query_file!("sql/usage/commit_async.sql").execute(&mut *transaction).await?;
    let results = batch.record(&mut transaction, oldest, environment).await?;
    transaction.commit().await?;
    Ok(results)
}

/// Waits until all that was committed before is as safe as the session's `synchronous_commit` says.
async fn flush(session: &mut Session) -> Result<()> {
    let mut transaction = session.begin_as_owner().await?;
    sqlx::query_file!("sql/usage/flush.sql").fetch_one(&mut *transaction).await?;
    transaction.commit().await
}

/// Whether the same again may succeed: a deadlock, or a snapshot that is too old.
fn in_the_way(error: &Error) -> bool {
    matches!(error, Error::Database(error)
        if matches!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("40P01" | "40001")))
}

/// A chunk whose tenants are known.
struct Prepared {
    chunk: Chunk,
    /// Numbers of the lines of no tenant, and of all others.
    unknown: Vec<u64>,
    known: Vec<u64>,
    /// The others, last first.
    lines: Vec<(Uuid, Line)>,
}

/// Events, and the numbers of their lines.
struct Numbered {
    events: Batch,
    numbers: Vec<u64>,
}

impl Prepared {
    async fn of(connection: &mut PgConnection, mut chunk: Chunk) -> Result<Self> {
        let ids: Vec<Option<Uuid>> = chunk.tenants.iter().map(|name| Uuid::try_parse(name).ok()).collect();
        let given: Vec<Uuid> = ids.iter().flatten().copied().collect();
        let mut slugs: HashMap<String, Uuid> = HashMap::new();
        let mut existing = HashSet::new();
        for row in
            sqlx::query_file!("sql/usage/tenants.sql", &chunk.tenants, &given).fetch_all(connection).await?
        {
            slugs.insert(row.slug, row.id);
            existing.insert(row.id);
        }
        let tenants: Vec<Option<Uuid>> = chunk
            .tenants
            .iter()
            .zip(&ids)
            .map(|(name, id)| {
                id.filter(|id| existing.contains(id)).or_else(|| slugs.get(name.as_str()).copied())
            })
            .collect();
        let (mut lines, mut known, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for line in chunk.lines.drain(..) {
            match tenants[line.tenant] {
                Some(tenant) => {
                    known.push(line.number);
                    lines.push((tenant, line));
                }
                None => unknown.push(line.number),
            }
        }
        // Lines come sorted by how their tenant was written. One that has two names has its lines in two places.
        let named: Vec<Uuid> = tenants.into_iter().flatten().collect();
        if named.iter().collect::<HashSet<_>>().len() < named.len() {
            lines.sort_unstable_by_key(|(tenant, line)| (*tenant, line.metric, line.at, line.number));
        }
        lines.reverse();
        known.sort_unstable();
        Ok(Self { chunk, unknown, known, lines })
    }

    /// The answers that nothing has to be recorded for.
    fn faults(&self) -> Vec<LineResult> {
        let faults = self.chunk.faults.iter().map(|(line, fault)| LineResult::of_fault(*line, fault.clone()));
        let unknown = self.unknown.iter().map(|line| LineResult {
            line: *line,
            outcome: Outcome::UnknownTenant,
            reason: None,
            used: None,
            limit: None,
        });
        faults.chain(unknown).collect()
    }

    /// The next lines to record, if there are any.
    fn next_batch(&mut self) -> Option<Numbered> {
        let start = self.lines.len().saturating_sub(BATCH);
        let mut batch = Numbered { events: Batch::default(), numbers: Vec::new() };
        for (tenant, line) in self.lines.drain(start..).rev() {
            batch.events.push(tenant, &self.chunk.metrics[line.metric], line.amount, line.key, line.at);
            batch.numbers.push(line.number);
        }
        (!batch.numbers.is_empty()).then_some(batch)
    }

    /// Gives the answers in the order of the lines: those that are at hand, and all others were accepted.
    fn tell(
        &self,
        mut results: Vec<LineResult>,
        summary: &mut Summary,
        answer: &mut impl FnMut(&LineResult) -> Result<()>,
    ) -> Result<()> {
        results.sort_unstable_by_key(|result| result.line);
        summary.without_key += self.chunk.without_key;
        let mut others = results.iter().peekable();
        let mut tell = |result: &LineResult| {
            summary.add(result.outcome);
            answer(result)
        };
        for &number in &self.known {
            while let Some(result) = others.next_if(|result| result.line < number) {
                tell(result)?;
            }
            match others.next_if(|result| result.line == number) {
                Some(result) => tell(result)?,
                None => tell(&LineResult {
                    line: number,
                    outcome: Outcome::Accepted,
                    reason: None,
                    used: None,
                    limit: None,
                })?,
            }
        }
        others.try_for_each(tell)
    }
}

impl Numbered {
    /// Records them; the answers to those that were not just accepted.
    async fn record(
        &self,
        transaction: &mut Transaction<'_>,
        oldest: OffsetDateTime,
        environment: &EnvironmentLimits,
    ) -> Result<Vec<LineResult>> {
        let answers = self.events.record(transaction, oldest, environment, false).await?;
        Ok(answers
            .into_iter()
            .filter_map(|(index, answer)| Some(LineResult::of_answer(*self.numbers.get(index)?, &answer)))
            .collect())
    }
}
