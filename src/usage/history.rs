//! What a tenant used in the past: day by day, or entry by entry of the ledger.

use serde::Serialize;
use sqlx::PgConnection;
use time::{Date, Duration, OffsetDateTime, UtcOffset};

use super::{Metric, Unit, find_metric};
use crate::tenant::{self, Tenant, TenantRef};
use crate::{Error, Result};

time::serde::format_description!(iso_day, Date, "[year]-[month]-[day]");

/// How many days are shown where nothing else is asked for.
const DAYS: i64 = 30;

/// How many days are shown at most.
const MOST_DAYS: i64 = 3660;

/// Which part of the past.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// From then on; a day counts as a whole. By day: none for 30 days.
    pub since: Option<OffsetDateTime>,
    /// What was before it; a day counts as a whole. None for now.
    pub until: Option<OffsetDateTime>,
}

/// What was used on a day of UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayOfUse {
    /// The day.
    #[serde(with = "iso_day")]
    pub day: Date,
    /// The sum of its amounts, releases taken off; the largest where that is what the metric counts.
    pub amount: i64,
    /// How many amounts were recorded.
    pub events: i64,
}

/// Days of use, one after the other without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Days {
    /// Slug of the tenant.
    #[serde(skip)]
    pub tenant: String,
    /// Key of the metric.
    #[serde(skip)]
    pub metric: String,
    /// What it counts.
    #[serde(skip)]
    pub unit: Unit,
    /// The days, oldest first.
    pub days: Vec<DayOfUse>,
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key that makes a replay harmless.
    pub key: Option<String>,
    /// What was recorded.
    pub amount: i64,
    /// When it was used.
    #[serde(with = "time::serde::rfc3339")]
    pub occurred_at: OffsetDateTime,
    /// When it was recorded.
    #[serde(with = "time::serde::rfc3339")]
    pub recorded_at: OffsetDateTime,
    /// What was used then, this included.
    pub used: i64,
    /// The limit that was in force then; none for unlimited.
    pub limit: Option<i64>,
    /// The period that it counts in; none where the metric never resets.
    #[serde(with = "time::serde::rfc3339::option")]
    pub period_start: Option<OffsetDateTime>,
}

/// Entries of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Entries {
    /// What the metric counts.
    #[serde(skip)]
    pub unit: Unit,
    /// The entries, newest first.
    pub entries: Vec<Entry>,
    /// Whether there are more.
    #[serde(skip)]
    pub more: bool,
    /// Whether the metric is counted from tables, whose usage has no entries.
    #[serde(skip)]
    pub metered: bool,
}

/// What a tenant used day by day.
///
/// # Errors
/// [`Error::NotFound`] for the tenant or the metric; [`Error::Invalid`] where the days are none or too many, or the metric
/// is not counted from usage.
pub async fn history_by_day(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    metric: &str,
    span: Span,
) -> Result<Days> {
    let (tenant, metric) = subject(connection, tenant, metric).await?;
    let end = span.until.unwrap_or_else(OffsetDateTime::now_utc).to_offset(UtcOffset::UTC);
    // A day that only begins where the span ends has no part in it.
    let last = end.checked_sub(Duration::NANOSECOND).unwrap_or(end).date();
    let first = match span.since {
        Some(since) => since.to_offset(UtcOffset::UTC).date(),
        None => last.saturating_sub(Duration::days(DAYS - 1)),
    };
    if !(0..MOST_DAYS).contains(&(last - first).whole_days()) {
        let reason = if first > last {
            format!("it is after {last}, where the history ends")
        } else {
            format!("a history by day has at most {MOST_DAYS} days")
        };
        return Err(Error::invalid("since", first.to_string(), reason));
    }
    let days = days(connection, &tenant, &metric.key, first, last).await?;
    Ok(Days { tenant: tenant.slug.to_string(), metric: metric.key, unit: metric.unit, days })
}

/// The newest entries of the ledger, at most `limit` of them.
///
/// # Errors
/// As [`history_by_day`].
pub async fn history_by_key(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    metric: &str,
    span: Span,
    limit: u32,
) -> Result<Entries> {
    let (tenant, metric) = subject(connection, tenant, metric).await?;
    // One more tells whether there are more.
    let rows = sqlx::query_file!(
        "sql/usage/entries.sql",
        tenant.id.0,
        metric.key,
        span.since,
        span.until,
        i64::from(limit) + 1
    )
    .fetch_all(connection)
    .await?;
    let more = rows.len() > limit as usize;
    let entries = rows
        .into_iter()
        .take(limit as usize)
        .map(|row| Entry {
            key: row.key,
            amount: row.amount,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            used: row.used,
            limit: row.limit_value,
            period_start: row.period_start,
        })
        .collect();
    Ok(Entries { unit: metric.unit, entries, more, metered: metric.source == "meter" })
}

/// The tenant and the metric whose past is wanted.
pub(super) async fn subject(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    metric: &str,
) -> Result<(Tenant, Metric)> {
    let tenant = tenant::find(connection, tenant).await?;
    let metric = find_metric(connection, metric).await?;
    if metric.source == "memberships" {
        return Err(Error::Invalid {
            field: "metric",
            value: metric.key,
            reason: "it is counted from the tenant's members, of which no usage is recorded".into(),
            hint: Some("`tenantctl usage stats` shows what is used now".into()),
        });
    }
    Ok((tenant, metric))
}

/// Every day from one to another.
pub(super) async fn days(
    connection: &mut PgConnection,
    tenant: &Tenant,
    metric: &str,
    first: Date,
    last: Date,
) -> Result<Vec<DayOfUse>> {
    let rows = sqlx::query_file!("sql/usage/days.sql", tenant.id.0, metric, first, last)
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| DayOfUse { day: row.day, amount: row.amount, events: row.events })
        .collect())
}
