//! Usage of many events at once, decided by one statement.

use std::collections::HashMap;

use serde::Serialize;
use sqlx::PgConnection;
use time::{Date, OffsetDateTime, UtcOffset};
use uuid::Uuid;

use super::StandIns;
use crate::db::Transaction;
use crate::id::TenantId;
use crate::plan::EnvironmentLimits;
use crate::{Error, Result};

/// Usage that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose.
    pub tenant: TenantId,
    /// Key of the metric.
    pub metric: String,
    /// How much, in the metric's unit; negative amounts release a gauge.
    pub amount: i64,
    /// Makes a replay harmless: the same key again gets the first answer.
    pub key: Option<String>,
    /// When it happened.
    pub at: OffsetDateTime,
}

/// What became of an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was recorded.
    Accepted,
    /// It was recorded, and more is used now than a limit that is soft allows.
    OverSoftLimit,
    /// Its key was recorded before, with the same metric and amount.
    Duplicate,
    /// The limit did not allow it, or it would have released more than is used.
    Rejected,
    /// Its key was recorded before, with another metric or amount.
    Conflict,
    /// There is no such tenant.
    UnknownTenant,
    /// There is no such metric.
    UnknownMetric,
    /// The tenant is not active.
    Inactive,
    /// The metric is counted from elsewhere.
    NotReported,
    /// It happened before the time that is still recorded.
    TooOld,
    /// It is to happen more than an hour from now.
    TooNew,
    /// Its amount is zero, or negative where the metric only grows.
    InvalidAmount,
    /// Its key does not have 1 to 1024 bytes.
    InvalidKey,
}

impl Verdict {
    fn of(word: &str) -> Result<Self> {
        Ok(match word {
            "accepted" => Self::Accepted,
            "over_soft_limit" => Self::OverSoftLimit,
            "duplicate" => Self::Duplicate,
            "rejected" => Self::Rejected,
            "conflict" => Self::Conflict,
            "unknown_tenant" => Self::UnknownTenant,
            "unknown_metric" => Self::UnknownMetric,
            "inactive" => Self::Inactive,
            "not_reported" => Self::NotReported,
            "too_old" => Self::TooOld,
            "too_new" => Self::TooNew,
            "invalid_amount" => Self::InvalidAmount,
            "invalid_key" => Self::InvalidKey,
            other => return Err(unexpected(other)),
        })
    }

    /// Whether it is in the ledger now.
    pub fn is_recorded(self) -> bool {
        matches!(self, Self::Accepted | Self::OverSoftLimit | Self::Duplicate)
    }
}

fn unexpected(word: &str) -> Error {
    Error::BadData {
        table: "record_usage",
        column: "outcome",
        row: "an answer".into(),
        value: word.into(),
        reason: "this program knows no such outcome".into(),
    }
}

/// The answer to an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// What became of it.
    pub verdict: Verdict,
    /// What was used then, this included; none where it was not decided.
    pub used: Option<i64>,
    /// The limit in force; none for unlimited.
    pub limit: Option<i64>,
    /// Since when the metric counts; none where it never resets.
    pub period_start: Option<OffsetDateTime>,
}

/// Records many events in a transaction of the control plane ([`crate::db::Session::begin_as_owner`]): in their order, each
/// if its limit allows it after those before it. What happened before `oldest` is not recorded. The answers come in the
/// order of the events. Either all is recorded that the answers say, or, where there is an error, nothing.
///
/// # Errors
/// [`Error::Configuration`] where a variable of the environment holds no limit; [`Error::Database`].
pub async fn record(
    transaction: &mut Transaction<'_>,
    events: &[Event],
    oldest: OffsetDateTime,
    environment: &EnvironmentLimits,
) -> Result<Vec<Recorded>> {
    let mut batch = Batch::default();
    for event in events {
        batch.push(event.tenant.0, &event.metric, event.amount, event.key.clone(), event.at);
    }
    in_order(batch.record(transaction, oldest, environment, true).await?, events.len())
}

/// The answers to all events, in their order.
fn in_order(answers: Vec<(usize, Recorded)>, events: usize) -> Result<Vec<Recorded>> {
    let mut ordered = vec![None; events];
    for (index, answer) in answers {
        if let Some(slot) = ordered.get_mut(index) {
            *slot = Some(answer);
        }
    }
    ordered.into_iter().collect::<Option<_>>().ok_or_else(|| unexpected("no answer"))
}

/// Answers as the database gives them: an array for each part. It counts events from 1.
struct Answers {
    ords: Option<Vec<i64>>,
    outcomes: Option<Vec<String>>,
    useds: Option<Vec<Option<i64>>>,
    limits: Option<Vec<Option<i64>>>,
    answered: Option<Vec<Option<OffsetDateTime>>>,
}

impl Answers {
    /// The events' indices, and what became of them.
    fn read(self) -> Result<Vec<(usize, Recorded)>> {
        let ords = self.ords.unwrap_or_default();
        let outcomes = self.outcomes.unwrap_or_default();
        let useds = self.useds.unwrap_or_default();
        let limits = self.limits.unwrap_or_default();
        let answered = self.answered.unwrap_or_default();
        if [outcomes.len(), useds.len(), limits.len(), answered.len()] != [ords.len(); 4] {
            return Err(unexpected("answers of different lengths"));
        }
        let answers = ords.into_iter().zip(outcomes).zip(useds).zip(limits).zip(answered);
        answers
            .map(|((((ord, outcome), used), limit), period_start)| {
                let index = usize::try_from(ord - 1).map_err(|_| unexpected("no event's number"))?;
                Ok((index, Recorded { verdict: Verdict::of(&outcome)?, used, limit, period_start }))
            })
            .collect()
    }
}

/// Events as `tenancy.record_usage` takes them: a column each, and what those of one tenant, metric and day have in
/// common once.
#[derive(Default)]
pub(crate) struct Batch {
    tenants: Vec<Uuid>,
    metrics: Vec<String>,
    days: Vec<Date>,
    groups: HashMap<(Uuid, String, Date), i32>,
    group: Vec<i32>,
    amounts: Vec<i64>,
    keys: Vec<Option<String>>,
    at: Vec<OffsetDateTime>,
}

impl Batch {
    pub(crate) fn push(
        &mut self,
        tenant: Uuid,
        metric: &str,
        amount: i64,
        key: Option<String>,
        at: OffsetDateTime,
    ) {
        let day = at.to_offset(UtcOffset::UTC).date();
        // Most events are of the group of the one before.
        let last = self.group.last().copied().filter(|group| {
            let index = *group as usize - 1;
            self.tenants[index] == tenant && self.days[index] == day && self.metrics[index] == metric
        });
        let group = last.unwrap_or_else(|| {
            let next = self.tenants.len() as i32 + 1;
            let group = *self.groups.entry((tenant, metric.to_owned(), day)).or_insert(next);
            if group == next {
                self.tenants.push(tenant);
                self.metrics.push(metric.to_owned());
                self.days.push(day);
            }
            group
        });
        self.group.push(group);
        self.amounts.push(amount);
        self.keys.push(key);
        self.at.push(at);
    }

    /// The answers with the events' indices: of all, or of those that were not just accepted.
    pub(crate) async fn record(
        &self,
        connection: &mut PgConnection,
        oldest: OffsetDateTime,
        environment: &EnvironmentLimits,
        all: bool,
    ) -> Result<Vec<(usize, Recorded)>> {
        let limits = self.environment_limits(connection, environment).await?;
        sqlx::query_file_as!(
            Answers,
            "sql/usage/record.sql",
            &self.tenants,
            &self.metrics,
            &self.days,
            limits.as_deref() as Option<&[Option<i64>]>,
            &self.group,
            &self.amounts,
            &self.keys as &[Option<String>],
            &self.at,
            oldest,
            all
        )
        .fetch_one(connection)
        .await?
        .read()
    }

    /// The groups' tenants.
    pub(crate) fn tenants(&self) -> &[Uuid] {
        &self.tenants
    }

    /// All answers in the order of the events, to a caller that proves each group's context.
    pub(crate) async fn track_in(
        &self,
        connection: &mut PgConnection,
        contexts: &[String],
    ) -> Result<Vec<Recorded>> {
        let answers = sqlx::query_file_as!(
            Answers,
            "sql/usage/track_many.sql",
            contexts,
            &self.tenants,
            &self.metrics,
            &self.days,
            &self.group,
            &self.amounts,
            &self.keys as &[Option<String>],
            &self.at
        )
        .fetch_one(connection)
        .await?;
        in_order(answers.read()?, self.group.len())
    }

    /// Each group's limit from the environment, where that has any.
    async fn environment_limits(
        &self,
        connection: &mut PgConnection,
        environment: &EnvironmentLimits,
    ) -> Result<Option<Vec<Option<i64>>>> {
        if environment.is_empty() {
            return Ok(None);
        }
        let plans: HashMap<Uuid, String> =
            sqlx::query_file!("sql/usage/tenants.sql", &[] as &[String], &self.tenants)
                .fetch_all(&mut *connection)
                .await?
                .into_iter()
                .map(|row| (row.id, row.plan))
                .collect();
        let mut by_plan: HashMap<&str, HashMap<String, i64>> = HashMap::new();
        for plan in plans.values() {
            if !by_plan.contains_key(plan.as_str()) {
                let found = StandIns::of(&mut *connection, plan, environment).await?;
                by_plan.insert(plan, found.metrics.into_iter().zip(found.limits).collect());
            }
        }
        let limit = |tenant, metric| by_plan.get(plans.get(tenant)?.as_str())?.get(metric).copied();
        Ok(Some(self.tenants.iter().zip(&self.metrics).map(|(t, m)| limit(t, m)).collect()))
    }
}
