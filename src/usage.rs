//! Usage: what tenants have used of what their plans allow.

mod alerts;
mod forecast;
mod history;
#[cfg(feature = "ingest")]
pub mod ingest;
pub mod meter;
mod prune;
pub mod reconcile;
mod record;
mod recorder;
mod reserve;

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db::Transaction;
use crate::plan::{EnvironmentLimits, LimitSource};
use crate::suggest::closest;
use crate::tenant::{self, Tenant, TenantRef};
pub use crate::unit::Unit;
use crate::{Error, Result};
pub use alerts::{Alert, AlertFilter, CHANNEL, alerts};
pub use forecast::{Forecast, Outlook, forecast};
pub use history::{DayOfUse, Days, Entries, Entry, Span, history_by_day, history_by_key};
pub use prune::{Pruned, prune};
pub use record::{Event, Recorded, Verdict, record};
pub use recorder::{RecorderOptions, Usage, UsageRecorder};
pub use reserve::{Released, Reservation, Reserve, commit, release, reserve};

/// Usage that is to be recorded.
#[derive(Debug, Clone)]
pub struct Track {
    /// Key of the metric.
    pub metric: String,
    /// How much, as it was typed: a whole number, or a size where bytes are counted. Negative amounts release a gauge.
    pub amount: String,
    /// Makes a replay harmless: the same key again gets the first answer.
    pub key: Option<String>,
    /// When it happened; none for now.
    pub at: Option<OffsetDateTime>,
}

/// What became of a [`Track`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was recorded.
    Accepted,
    /// It was recorded, and more is used now than a limit that is soft allows.
    OverSoftLimit,
    /// The key was recorded before; the answer is the one it got then.
    Duplicate,
    /// The limit did not allow it. [`track`] returns [`Error::LimitExceeded`] instead; a program that prints answers
    /// says it with this.
    Rejected,
}

/// The answer to a [`Track`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tracked {
    /// Slug of the tenant.
    pub tenant: String,
    /// Key of the metric.
    pub metric: String,
    /// What the metric counts.
    #[serde(skip)]
    pub unit: Unit,
    /// What was recorded.
    pub amount: i64,
    /// What is used, this included.
    pub used: i64,
    /// The limit in force; none for unlimited.
    pub limit: Option<i64>,
    /// What is left; none for unlimited.
    pub remaining: Option<i64>,
    /// Since when the metric counts; none where it never resets.
    #[serde(with = "time::serde::rfc3339::option")]
    pub period_start: Option<OffsetDateTime>,
    /// What became of it.
    pub outcome: Decision,
}

/// What a tenant has used of one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stat {
    /// Key of the metric.
    pub metric: String,
    /// What it counts.
    pub unit: Unit,
    /// What is used.
    pub used: i64,
    /// The limit in force; none for unlimited.
    pub limit: Option<i64>,
    /// What is left; none for unlimited.
    pub remaining: Option<i64>,
    /// Used of the limit, in percent; none for unlimited or a limit of zero.
    pub percent: Option<f64>,
    /// Since when the metric counts; none where it never resets.
    #[serde(with = "time::serde::rfc3339::option")]
    pub period_start: Option<OffsetDateTime>,
    /// Where the limit comes from.
    pub source: LimitSource,
    /// Whether more than the limit is admitted, and marked.
    pub soft: bool,
}

/// Records usage of a tenant, if its limit allows it, in a transaction of the control plane
/// ([`crate::db::Session::begin_as_owner`]). From here on the transaction runs as the application role in the tenant's
/// context.
///
/// # Errors
/// [`Error::LimitExceeded`] where the limit does not allow it: nothing is changed. [`Error::Conflict`] where the key was
/// used for something else. [`Error::NotFound`] for the tenant or the metric, [`Error::Refused`] for a tenant that is
/// not active, [`Error::Invalid`] for an amount or key that does not fit.
pub async fn track(
    transaction: &mut Transaction<'_>,
    tenant: &TenantRef,
    track: &Track,
    environment: &EnvironmentLimits,
) -> Result<Tracked> {
    let tenant = tenant::find(transaction, tenant).await?;
    tenant.refuse_inactive()?;
    let metric = find_metric(transaction, &track.metric).await?;
    metric.refuse_unreported()?;
    let unit = metric.unit;
    let amount = unit
        .parse_amount(&track.amount)
        .map_err(|reason| Error::invalid("amount", track.amount.clone(), reason))?;
    if amount == 0 || amount == i64::MIN {
        return Err(Error::invalid("amount", track.amount.clone(), "it has to be different from zero"));
    }
    if amount < 0 && metric.kind == "counter" {
        return Err(Error::invalid("amount", track.amount.clone(), format!("{} only grows", metric.key)));
    }
    if let Some(key) = &track.key
        && !(1..=1024).contains(&key.len())
    {
        return Err(Error::invalid("key", shorten(key), "a key has 1 to 1024 bytes"));
    }
    let stand_in = environment.get(&tenant.plan, &metric.key, unit)?.map(|limit| limit.unwrap_or(UNLIMITED));

    transaction.enter_tenant(tenant.id).await?;
    let answer = sqlx::query_file!(
        "sql/usage/track.sql",
        tenant.id.0,
        metric.key,
        amount,
        track.key,
        track.at,
        stand_in
    )
    .fetch_one(&mut **transaction)
    .await
    .map_err(|error| match error.as_database_error().and_then(|e| e.code()).as_deref() {
        Some("TN006") => Error::Conflict {
            kind: "key",
            name: shorten(track.key.as_deref().unwrap_or_default()),
            reason: "was used for another amount or metric".into(),
            hint: Some("give every piece of usage a key of its own".into()),
        },
        // Metered, suspended or deleted between our look and the decision.
        Some("TN002") => metric.metered(),
        Some("TN005") => inactive(&tenant, "no longer active"),
        _ => error.into(),
    })?;
    let outcome = match answer.outcome.as_str() {
        "accepted" => Decision::Accepted,
        "over_soft_limit" => Decision::OverSoftLimit,
        "duplicate" => Decision::Duplicate,
        _ if amount < 0 => {
            return Err(Error::Invalid {
                field: "amount",
                value: track.amount.clone(),
                reason: format!("only {} {} are used, what is reserved included", answer.used, metric.key),
                hint: Some("release no more than is used".into()),
            });
        }
        _ => {
            return Err(Error::LimitExceeded {
                tenant: tenant.slug.to_string(),
                metric: metric.key.clone(),
                amount,
                used: answer.used,
                limit: answer.limit_value.unwrap_or(i64::MAX),
                plan: tenant.plan,
                period_start: answer.period_start,
            });
        }
    };
    Ok(Tracked {
        tenant: tenant.slug.to_string(),
        metric: metric.key.clone(),
        unit,
        amount: answer.amount,
        used: answer.used,
        limit: answer.limit_value,
        remaining: answer.limit_value.map(|limit| (limit - answer.used).max(0)),
        period_start: answer.period_start,
        outcome,
    })
}

/// A metric, as far as usage goes by it.
pub(crate) struct Metric {
    pub(crate) key: String,
    pub(crate) unit: Unit,
    kind: String,
    source: String,
}

impl Metric {
    /// What the control plane counts by itself, nobody reports.
    fn refuse_unreported(&self) -> Result<()> {
        match self.source.as_str() {
            "memberships" => Err(Error::Invalid {
                field: "metric",
                value: self.key.clone(),
                reason: "it is counted from the tenant's members".into(),
                hint: Some("add or remove members with `tenantctl user`".into()),
            }),
            "meter" => Err(self.metered()),
            _ => Ok(()),
        }
    }

    fn metered(&self) -> Error {
        Error::Invalid {
            field: "metric",
            value: self.key.clone(),
            reason: "it is counted from the platform's tables".into(),
            hint: Some("write to the tables that `tenantctl usage meter list` names".into()),
        }
    }
}

/// The metric of a key.
pub(crate) async fn find_metric(connection: &mut PgConnection, key: &str) -> Result<Metric> {
    let mut metrics = sqlx::query_file!("sql/usage/metrics.sql").fetch_all(connection).await?;
    match metrics.iter().position(|m| m.key == key) {
        Some(index) => {
            let found = metrics.swap_remove(index);
            Ok(Metric { key: found.key, unit: found.unit.parse()?, kind: found.kind, source: found.source })
        }
        None => Err(Error::NotFound {
            kind: "metric",
            name: key.to_owned(),
            suggestion: closest(key, metrics.iter().map(|m| m.key.as_str())),
        }),
    }
}

/// How SQL is told that the environment lifts a limit.
pub(crate) const UNLIMITED: i64 = -1;

/// What the environment says of the metrics of a plan, for SQL that decides with it.
pub(crate) struct StandIns {
    /// Keys of the metrics that it has a say in.
    pub(crate) metrics: Vec<String>,
    /// The limit of each.
    pub(crate) limits: Vec<i64>,
}

impl StandIns {
    pub(crate) async fn of(
        connection: &mut PgConnection,
        plan: &str,
        environment: &EnvironmentLimits,
    ) -> Result<Self> {
        let mut found = Self { metrics: Vec::new(), limits: Vec::new() };
        for metric in sqlx::query_file!("sql/usage/metrics.sql").fetch_all(connection).await? {
            if let Some(limit) = environment.get(plan, &metric.key, metric.unit.parse()?)? {
                found.limits.push(limit.unwrap_or(UNLIMITED));
                found.metrics.push(metric.key);
            }
        }
        Ok(found)
    }
}

fn shorten(key: &str) -> String {
    match key.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key.into(),
    }
}

fn inactive(tenant: &Tenant, state: &str) -> Error {
    Error::refused(
        format!("tenant {:?} is {state}: it cannot use anything", tenant.slug.as_str()),
        format!("`tenantctl tenant show {}` says since when", tenant.slug),
    )
}

impl Tenant {
    fn refuse_inactive(&self) -> Result<()> {
        match self.status {
            tenant::Status::Active => Ok(()),
            other => Err(inactive(self, other.as_str())),
        }
    }
}

/// What a tenant has used, metric by metric in the catalogue's order.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Configuration`] where a variable of the environment holds no limit.
pub async fn stats(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    environment: &EnvironmentLimits,
) -> Result<Vec<Stat>> {
    let tenant = tenant::find(connection, tenant).await?;
    let stand_ins = StandIns::of(connection, &tenant.plan, environment).await?;
    let rows = sqlx::query_file!("sql/usage/stats.sql", tenant.id.0, &stand_ins.metrics, &stand_ins.limits)
        .fetch_all(connection)
        .await?;
    let mut stats = Vec::with_capacity(rows.len());
    for row in rows {
        let limit = row.limit_value;
        stats.push(Stat {
            metric: row.metric,
            unit: row.unit.parse()?,
            used: row.used,
            limit,
            remaining: limit.map(|limit| (limit - row.used).max(0)),
            percent: limit.filter(|l| *l > 0).map(|l| (row.used as f64 / l as f64 * 1000.0).round() / 10.0),
            period_start: row.period_start,
            source: row.source.parse()?,
            soft: row.soft,
        });
    }
    Ok(stats)
}

/// Counts a member who becomes an admin (1) or stops being one (-1) against the plan's limit of `admins`, if the
/// catalogue has that metric.
pub(crate) async fn count_admins(
    connection: &mut PgConnection,
    tenant: &Tenant,
    amount: i64,
    environment: &EnvironmentLimits,
) -> Result<()> {
    const METRIC: &str = "admins";
    let stand_in =
        environment.get(&tenant.plan, METRIC, Unit::Count)?.map(|limit| limit.unwrap_or(UNLIMITED));
    let answer = sqlx::query_file!("sql/usage/count_admins.sql", tenant.id.0, METRIC, amount, stand_in)
        .fetch_optional(connection)
        .await?;
    match answer {
        Some(answer) if !answer.admitted => Err(Error::LimitExceeded {
            tenant: tenant.slug.to_string(),
            metric: METRIC.into(),
            amount,
            used: answer.used,
            limit: answer.limit_value.unwrap_or(i64::MAX),
            plan: tenant.plan.clone(),
            period_start: None,
        }),
        _ => Ok(()),
    }
}
