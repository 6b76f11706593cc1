//! Thresholds of limits that use has reached. The database records them, whatever the way by which usage is: 80, 90 and
//! 100 %, each once for each time that it is reached, and tells who listens on [`CHANNEL`].

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Unit, find_metric};
use crate::Result;
use crate::tenant::{self, TenantRef};

/// Where the database notifies of each threshold that is reached, by the alert's `id` alone: every login may listen on a
/// channel, and send on it, so that a listener reads the row of `tenancy.usage_alerts`, under its policies.
pub const CHANNEL: &str = "tenancy_usage";

/// Which alerts.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Only of this tenant; none for those of all that are not deleted.
    pub tenant: Option<TenantRef>,
    /// Only of this metric.
    pub metric: Option<String>,
    /// Only from then on.
    pub since: Option<OffsetDateTime>,
}

/// A threshold of a limit that was reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    /// Slug of the tenant.
    pub tenant: String,
    /// Key of the metric.
    pub metric: String,
    /// What it counts.
    pub unit: Unit,
    /// The threshold, in percent of the limit.
    pub threshold: i16,
    /// What was used then.
    pub used: i64,
    /// The limit that was in force then.
    pub limit: i64,
    /// Since when the metric counted; none where it never resets.
    #[serde(with = "time::serde::rfc3339::option")]
    pub period_start: Option<OffsetDateTime>,
    /// When it was reached.
    #[serde(with = "time::serde::rfc3339")]
    pub crossed_at: OffsetDateTime,
    /// What a notification names it by.
    pub id: i64,
}

/// The thresholds that were reached, newest first.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) for the tenant or the metric.
pub async fn alerts(connection: &mut PgConnection, filter: &AlertFilter) -> Result<Vec<Alert>> {
    let tenant = match &filter.tenant {
        Some(tenant) => Some(tenant::find(connection, tenant).await?.id.0),
        None => None,
    };
    let metric = match &filter.metric {
        Some(metric) => Some(find_metric(connection, metric).await?.key),
        None => None,
    };
    let rows =
        sqlx::query_file!("sql/usage/alerts.sql", tenant, metric, filter.since).fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Alert {
                tenant: row.slug,
                metric: row.metric,
                unit: row.unit.parse()?,
                threshold: row.threshold,
                used: row.used,
                limit: row.limit_value,
                period_start: row.period_start,
                crossed_at: row.crossed_at,
                id: row.id,
            })
        })
        .collect()
}
