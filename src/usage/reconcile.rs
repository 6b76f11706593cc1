//! Whether counters hold what they should: what the metered tables hold, the members who are admins, or the history.

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Unit, find_metric};
use crate::id::TenantId;
use crate::rls::explain;
use crate::suggest::one_of;
use crate::tenant::{self, TenantRef};
use crate::{Result, audit};

/// Which counters to look at.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Of one tenant; of all where none is named.
    pub tenant: Option<TenantRef>,
    /// Of one metric; of all where none is named.
    pub metric: Option<String>,
}

/// What says how much a counter should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The tables that are metered for it.
    Tables,
    /// The tenant's members.
    Memberships,
    /// The ledger, the days that were summed up, and earlier corrections.
    History,
}

impl Basis {
    /// Its name in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tables => "tables",
            Self::Memberships => "memberships",
            Self::History => "history",
        }
    }
}

/// A counter that does not hold what it should.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// Slug of the tenant.
    pub tenant: String,
    /// Key of the metric.
    pub metric: String,
    /// What it counts.
    pub unit: Unit,
    /// Since when the counter counts; none where it never resets.
    #[serde(with = "time::serde::rfc3339::option")]
    pub period_start: Option<OffsetDateTime>,
    /// What the counter holds.
    pub counted: i64,
    /// What it should hold.
    pub actual: i64,
    /// By how much it is too high.
    pub drift: i64,
    /// What says so.
    pub basis: Basis,
    #[serde(skip)]
    tenant_id: Option<TenantId>,
}

/// Counters that nothing says the truth about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incomparable {
    /// Key of the metric.
    pub metric: String,
    /// The metered table that cannot be read, with its schema, quoted as in SQL; none where that is not why.
    pub table: Option<String>,
    /// How many.
    pub counters: i64,
    /// Why.
    pub reason: String,
    /// Whether a meter is to blame, which somebody has to mend; what else there is passes by itself.
    pub broken: bool,
}

/// What a look at counters found.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The counters that do not hold what they should.
    pub drifts: Vec<Drift>,
    /// What could not be compared.
    pub incomparable: Vec<Incomparable>,
}

struct Row {
    tenant_id: Option<Uuid>,
    slug: String,
    unit: String,
    metric: String,
    period_start: Option<OffsetDateTime>,
    counted: i64,
    actual: i64,
    basis: String,
    table_name: Option<String>,
    failure: Option<String>,
    counters: i64,
}

impl TryFrom<Row> for Drift {
    type Error = crate::Error;

    fn try_from(row: Row) -> Result<Self> {
        let basis = one_of(
            "basis",
            &row.basis,
            &[("tables", Basis::Tables), ("memberships", Basis::Memberships), ("history", Basis::History)],
        )?;
        Ok(Self {
            tenant: row.slug,
            metric: row.metric,
            unit: row.unit.parse()?,
            period_start: row.period_start,
            counted: row.counted,
            actual: row.actual,
            drift: row.counted - row.actual,
            basis,
            tenant_id: row.tenant_id.map(TenantId),
        })
    }
}

/// Compares counters with what they should hold, all in one snapshot, as the connecting role: it has to see all rows of
/// metered tables. A table that cannot be read makes its own metric's counters incomparable, and no others.
///
/// # Errors
/// [`crate::Error::NotFound`] for the tenant or the metric, [`crate::Error::Refused`] where policies hide rows.
pub async fn detect(connection: &mut PgConnection, scope: &Scope) -> Result<Findings> {
    let (tenant, metric) = resolve(connection, scope).await?;
    let rows = sqlx::query_file_as!(Row, "sql/usage/reconcile/drift.sql", tenant, metric.as_deref())
        .fetch_all(&mut *connection)
        .await
        .map_err(|error| explain(error, "metered tables"))?;
    findings(connection, rows, tenant, metric).await
}

/// Sets counters to what they should hold, writes down a correction for each, and gives what was wrong. Right beside
/// concurrent use: the truth is found again under the counters' locks.
///
/// # Errors
/// Those of [`detect`].
pub async fn repair(connection: &mut PgConnection, scope: &Scope) -> Result<Findings> {
    let (tenant, metric) = resolve(connection, scope).await?;
    let metric_key = metric.as_deref();
    let keys = sqlx::query_file!("sql/usage/reconcile/keys.sql", tenant, metric_key)
        .fetch_one(&mut *connection)
        .await
        .map_err(|error| explain(error, "metered tables"))?;
    let (tenants, metrics, periods) = (&keys.tenants, &keys.metrics, &keys.periods);
    sqlx::query_file!("sql/usage/reconcile/open.sql", tenants, metrics, periods)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query_file!("sql/usage/reconcile/lock.sql", tenants, metrics, periods)
        .fetch_one(&mut *connection)
        .await?;
    let rows = sqlx::query_file_as!(
        Row,
        "sql/usage/reconcile/repair.sql",
        tenant,
        metric_key,
        tenants,
        metrics,
        periods
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(|error| explain(error, "metered tables"))?;
    let found = findings(connection, rows, tenant, metric).await?;
    for drift in &found.drifts {
        let details = serde_json::json!({
            "slug": drift.tenant, "metric": drift.metric, "before": drift.counted, "after": drift.actual,
            "basis": drift.basis.as_str(),
        });
        audit::record(connection, "usage.repair", drift.tenant_id, details).await?;
    }
    Ok(found)
}

async fn resolve(connection: &mut PgConnection, scope: &Scope) -> Result<(Option<Uuid>, Option<String>)> {
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog, pg_temp").execute(&mut *connection).await?;
    let tenant = match &scope.tenant {
        Some(tenant) => Some(tenant::find(connection, tenant).await?.id.0),
        None => None,
    };
    let metric = match &scope.metric {
        Some(metric) => Some(find_metric(connection, metric).await?.key),
        None => None,
    };
    Ok((tenant, metric))
}

async fn findings(
    connection: &mut PgConnection,
    rows: Vec<Row>,
    tenant: Option<Uuid>,
    metric: Option<String>,
) -> Result<Findings> {
    let mut drifts = Vec::with_capacity(rows.len());
    let mut incomparable = Vec::new();
    for row in rows {
        match row.failure {
            Some(reason) => incomparable.push(Incomparable {
                metric: row.metric,
                table: row.table_name,
                counters: row.counters,
                reason,
                broken: true,
            }),
            None => drifts.push(Drift::try_from(row)?),
        }
    }
    let untold = sqlx::query_file!("sql/usage/reconcile/incomparable.sql", tenant, metric.as_deref())
        .fetch_all(connection)
        .await?;
    incomparable.extend(untold.into_iter().map(|row| {
        Incomparable {
            metric: row.metric,
            table: None,
            counters: row.counters,
            reason: if row.gone {
                "the tables that were metered are gone"
            } else {
                "the day that its periods begin on was changed"
            }
            .to_owned(),
            broken: row.gone,
        }
    }));
    Ok(Findings { drifts, incomparable })
}
