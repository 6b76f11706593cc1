//! Limits of single tenants, and why a limit is what it is. What wins first: the tenant's override until it expires, the
//! caller's environment, the plan, the metric's default.

use serde::Serialize;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::audit;
use crate::change::{Change, Outcome};
use crate::plan::{EnvironmentLimits, LimitSource, parse_limit};
use crate::tenant::{self, TenantRef};
use crate::unit::Unit;
use crate::usage::{UNLIMITED, find_metric};
use crate::validate;
use crate::{Error, Result};

/// A limit that is to hold for one tenant, whatever its plan says.
#[derive(Debug, Clone)]
pub struct NewOverride {
    /// Key of the metric.
    pub metric: String,
    /// As it was typed: a whole number, a size where bytes are counted, or `unlimited`.
    pub limit: String,
    /// Admit what goes over it, and mark it.
    pub soft: bool,
    /// Until when it holds; none for ever.
    pub expires_at: Option<OffsetDateTime>,
    /// Why.
    pub reason: Option<String>,
}

/// A limit that holds for one tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Override {
    /// Slug of the tenant.
    pub tenant: String,
    /// Key of the metric.
    pub metric: String,
    /// What the metric counts.
    pub unit: Unit,
    /// Most that may be used; none for unlimited.
    pub limit: Option<i64>,
    /// Whether more is admitted, and marked.
    pub soft: bool,
    /// Until when it holds; none for ever.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Whether that is over.
    pub expired: bool,
    /// Why it is there.
    pub reason: Option<String>,
    /// Who put it there.
    pub actor: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// What is used now.
    pub used: i64,
}

/// Why a limit is what it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Slug of the tenant.
    pub tenant: String,
    /// Key of the metric.
    pub metric: String,
    /// What it counts.
    pub unit: Unit,
    /// What is used.
    pub used: i64,
    /// The limit in force; none for unlimited.
    pub limit: Option<i64>,
    /// Whether more is admitted, and marked.
    pub soft: bool,
    /// What is left; none for unlimited.
    pub remaining: Option<i64>,
    /// Which layer won.
    pub source: LimitSource,
    /// Since when the metric counts; none where it never resets.
    #[serde(with = "time::serde::rfc3339::option")]
    pub period_start: Option<OffsetDateTime>,
    /// Every layer, what wins first.
    pub layers: Vec<Layer>,
}

/// What one layer says of a limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Which layer.
    pub source: LimitSource,
    /// Where to change it: the variable, or the plan.
    pub name: Option<String>,
    /// Whether it says anything.
    pub set: bool,
    /// Most that may be used; none for unlimited, or where it says nothing.
    pub limit: Option<i64>,
    /// Whether more is admitted, and marked.
    pub soft: bool,
    /// Whether this is the limit in force.
    pub wins: bool,
    /// Until when it holds; none for ever.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// Whether that is over.
    pub expired: bool,
    /// Why it is there.
    pub reason: Option<String>,
    /// Who put it there.
    pub actor: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339::option")]
    pub created_at: Option<OffsetDateTime>,
}

/// Gives a tenant a limit of its own. Its counters have it when the transaction ends.
///
/// # Errors
/// [`Error::NotFound`] for the tenant or the metric, [`Error::Invalid`], [`Error::Refused`] for a deleted tenant.
pub async fn set(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    new: &NewOverride,
) -> Result<Change<Override>> {
    let tenant = tenant::lock(connection, tenant).await?;
    let metric = find_metric(connection, &new.metric).await?;
    let limit = parse_limit(&new.limit, metric.unit).map_err(|reason| Error::Invalid {
        field: "limit",
        value: new.limit.clone(),
        reason,
        hint: Some("give a whole number, a size such as 5GB where bytes are counted, or unlimited".into()),
    })?;
    if new.soft && limit.is_none() {
        return Err(Error::invalid(
            "limit",
            new.limit.clone(),
            "without a limit there is nothing to be soft",
        ));
    }
    let reason = new.reason.as_deref().map(|reason| validate::name("reason", reason)).transpose()?;
    let expires_at = new.expires_at.map(to_microseconds);
    if let Some(at) = expires_at.filter(|at| *at <= OffsetDateTime::now_utc()) {
        return Err(Error::invalid("expires", at.to_string(), "it is over"));
    }
    let before = select(connection, Some(tenant.id.0), Some(&metric.key)).await?.pop();
    if let Some(before) = &before
        && (before.limit, before.soft, before.expires_at, &before.reason)
            == (limit, new.soft, expires_at, &reason)
    {
        return Ok(Change::unchanged(before.clone()));
    }
    sqlx::query_file!("sql/limit/upsert.sql", tenant.id.0, metric.key, limit, new.soft, expires_at, reason)
        .execute(&mut *connection)
        .await?;
    sqlx::query_file!("sql/usage/refresh_limits.sql", tenant.id.0).fetch_one(&mut *connection).await?;
    let value = show(connection, &tenant, &metric.key).await?;
    record(connection, "limit.set", &tenant, &value).await?;
    let outcome = if before.is_some() { Outcome::Updated } else { Outcome::Created };
    Ok(Change { outcome, value })
}

/// Takes a limit of its own from a tenant.
///
/// # Errors
/// [`Error::NotFound`] for the tenant, the metric, or (of kind `override`) where it has none; [`Error::Refused`] for a
/// deleted tenant.
pub async fn unset(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    metric: &str,
) -> Result<Change<Override>> {
    let tenant = tenant::lock(connection, tenant).await?;
    let metric = find_metric(connection, metric).await?.key;
    let before = show(connection, &tenant, &metric).await?;
    let gone =
        sqlx::query_file!("sql/limit/delete.sql", tenant.id.0, metric).execute(&mut *connection).await?;
    crate::change::one_row("override", &metric, gone.rows_affected())?;
    sqlx::query_file!("sql/usage/refresh_limits.sql", tenant.id.0).fetch_one(&mut *connection).await?;
    record(connection, "limit.unset", &tenant, &before).await?;
    Ok(Change { outcome: Outcome::Removed, value: before })
}

/// The overrides of a tenant, or of all that are not deleted; expired ones among them.
///
/// # Errors
/// [`Error::NotFound`] for the tenant.
pub async fn list(connection: &mut PgConnection, tenant: Option<&TenantRef>) -> Result<Vec<Override>> {
    let id = match tenant {
        Some(tenant) => Some(tenant::find(connection, tenant).await?.id.0),
        None => None,
    };
    select(connection, id, None).await
}

/// Why a limit is what it is, for a caller with this environment.
///
/// # Errors
/// [`Error::NotFound`] for the tenant or the metric; [`Error::Configuration`] where the variable holds no limit.
pub async fn explain(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    metric: &str,
    environment: &EnvironmentLimits,
) -> Result<Explanation> {
    let tenant = tenant::find(connection, tenant).await?;
    let metric = find_metric(connection, metric).await?;
    let stand_in = environment.get(&tenant.plan, &metric.key, metric.unit)?;
    let row = sqlx::query_file!(
        "sql/limit/explain.sql",
        tenant.id.0,
        metric.key,
        stand_in.map(|limit| limit.unwrap_or(UNLIMITED))
    )
    .fetch_one(connection)
    .await?;
    let source: LimitSource = row.source.parse()?;
    let layer = |of: LimitSource, name: Option<String>, set: bool, limit: Option<i64>, soft: bool| Layer {
        source: of,
        name,
        set,
        limit,
        soft,
        wins: of == source,
        expires_at: None,
        expired: false,
        reason: None,
        actor: None,
        created_at: None,
    };
    let own = Layer {
        expires_at: row.expires_at,
        expired: row.expired,
        reason: row.reason,
        actor: row.actor,
        created_at: row.created_at,
        ..layer(LimitSource::Override, None, row.override_set, row.override_value, row.override_soft)
    };
    let variable = EnvironmentLimits::variable(&tenant.plan, &metric.key);
    Ok(Explanation {
        tenant: tenant.slug.to_string(),
        metric: metric.key,
        unit: metric.unit,
        used: row.used,
        limit: row.limit_value,
        soft: row.soft,
        remaining: row.limit_value.map(|limit| (limit - row.used).max(0)),
        source,
        period_start: row.period_start,
        layers: vec![
            own,
            layer(LimitSource::Environment, Some(variable), stand_in.is_some(), stand_in.flatten(), false),
            layer(LimitSource::Plan, Some(tenant.plan), row.plan_set, row.plan_value, row.plan_soft),
            layer(LimitSource::Default, None, true, row.default_limit, row.default_soft),
        ],
    })
}

/// PostgreSQL's times have no smaller parts.
fn to_microseconds(time: OffsetDateTime) -> OffsetDateTime {
    time - time::Duration::nanoseconds(i64::from(time.nanosecond() % 1000))
}

async fn show(connection: &mut PgConnection, tenant: &tenant::Tenant, metric: &str) -> Result<Override> {
    select(connection, Some(tenant.id.0), Some(metric)).await?.pop().ok_or_else(|| Error::NotFound {
        kind: "override",
        name: metric.to_owned(),
        suggestion: None,
    })
}

async fn select(
    connection: &mut PgConnection,
    tenant: Option<uuid::Uuid>,
    metric: Option<&str>,
) -> Result<Vec<Override>> {
    let rows = sqlx::query_file!("sql/limit/select.sql", tenant, metric).fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Override {
                tenant: row.slug,
                metric: row.metric,
                unit: row.unit.parse()?,
                limit: row.limit_value,
                soft: row.soft,
                expires_at: row.expires_at,
                expired: row.expired,
                reason: row.reason,
                actor: row.actor,
                created_at: row.created_at,
                used: row.used,
            })
        })
        .collect()
}

async fn record(
    connection: &mut PgConnection,
    action: &str,
    tenant: &tenant::Tenant,
    value: &Override,
) -> Result<()> {
    let expires_at =
        value.expires_at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    let details = serde_json::json!({
        "slug": value.tenant, "metric": value.metric, "limit": value.limit, "soft": value.soft,
        "expires_at": expires_at, "reason": value.reason,
    });
    audit::record(connection, action, Some(tenant.id), details).await
}
