//! Usage that is reserved before work that may fail.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Decision, Metric, Tracked, UNLIMITED, find_metric, inactive, shorten};
use crate::change::{Change, Outcome};
use crate::db::Transaction;
use crate::plan::EnvironmentLimits;
use crate::tenant::{self, Tenant, TenantRef};
use crate::unit::Unit;
use crate::{Error, Result};

/// Usage that is to be reserved.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// Key of the metric.
    pub metric: String,
    /// How much, as it was typed: a whole number, or a size where bytes are counted.
    pub amount: String,
    /// How long it is held at least, up to 30 days.
    pub ttl: Duration,
    /// Makes a replay harmless: the same key again gets the first reservation.
    pub key: Option<String>,
}

/// Usage that is reserved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reservation {
    /// Slug of the tenant.
    pub tenant: String,
    /// Its identifier, to commit or release it by; none where the key is usage already.
    pub reservation: Option<Uuid>,
    /// Key of the metric.
    pub metric: String,
    /// What the metric counts.
    #[serde(skip)]
    pub unit: Unit,
    /// What is reserved.
    pub amount: i64,
    /// What is used, this and all other reservations included.
    pub used: i64,
    /// The limit in force; none for unlimited.
    pub limit: Option<i64>,
    /// What is left; none for unlimited.
    pub remaining: Option<i64>,
    /// Until when it is held in any case; afterwards until somebody needs the room.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// `open`, or where the key was seen before what became of it: `committed`, `released`, `expired`.
    pub state: String,
    /// What became of the call.
    pub outcome: Decision,
}

/// A reservation that was given back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Released {
    /// Slug of the tenant.
    pub tenant: String,
    /// Its identifier.
    pub reservation: Uuid,
    /// Key of the metric.
    pub metric: String,
    /// What the metric counts.
    #[serde(skip)]
    pub unit: Unit,
    /// What was reserved.
    pub amount: i64,
    /// What is used now.
    pub used: i64,
}

/// Reserves usage of a tenant, if its limit allows it, in a transaction of the control plane; from here on the transaction
/// runs as the application role in the tenant's context, as after [`super::track`].
///
/// # Errors
/// Those of [`super::track`].
pub async fn reserve(
    transaction: &mut Transaction<'_>,
    tenant: &TenantRef,
    reserve: &Reserve,
    environment: &EnvironmentLimits,
) -> Result<Reservation> {
    let tenant = tenant::find(transaction, tenant).await?;
    tenant.refuse_inactive()?;
    let Metric { key: metric, unit, .. } = find_metric(transaction, &reserve.metric).await?;
    let amount = unit
        .parse_amount(&reserve.amount)
        .map_err(|reason| Error::invalid("amount", reserve.amount.clone(), reason))?;
    if amount <= 0 {
        return Err(Error::invalid(
            "amount",
            reserve.amount.clone(),
            "only more than nothing can be reserved",
        ));
    }
    if let Some(key) = reserve.key.as_ref().filter(|key| !(1..=1024).contains(&key.len())) {
        return Err(Error::invalid("key", shorten(key), "a key has 1 to 1024 bytes"));
    }
    let days = Duration::from_secs(30 * 86_400);
    if reserve.ttl.is_zero() || reserve.ttl > days {
        return Err(Error::invalid(
            "for",
            format!("{}s", reserve.ttl.as_secs()),
            "usage can be reserved for 30 days at most",
        ));
    }
    let stand_in = environment.get(&tenant.plan, &metric, unit)?.map(|limit| limit.unwrap_or(UNLIMITED));
    transaction.enter_tenant(tenant.id).await?;
    let answer = sqlx::query_file!(
        "sql/usage/reserve.sql",
        tenant.id.0,
        metric,
        amount,
        reserve.ttl.as_secs_f64(),
        reserve.key,
        stand_in
    )
    .fetch_one(&mut **transaction)
    .await
    .map_err(|error| match code(&error).as_deref() {
        Some("TN002") => Error::invalid(
            "metric",
            metric.clone(),
            "only what callers report, and what is summed, can be reserved",
        ),
        Some("TN006") => Error::Conflict {
            kind: "key",
            name: shorten(reserve.key.as_deref().unwrap_or_default()),
            reason: "was used for another amount or metric".into(),
            hint: Some("give every piece of usage a key of its own".into()),
        },
        Some("TN005") => inactive(&tenant, "no longer active"),
        _ => error.into(),
    })?;
    let outcome = match answer.outcome.as_str() {
        "accepted" => Decision::Accepted,
        "over_soft_limit" => Decision::OverSoftLimit,
        "duplicate" => Decision::Duplicate,
        _ => {
            return Err(Error::LimitExceeded {
                tenant: tenant.slug.to_string(),
                metric,
                amount,
                used: answer.used,
                limit: answer.limit_value.unwrap_or(i64::MAX),
                plan: tenant.plan,
                period_start: answer.period_start,
            });
        }
    };
    Ok(Reservation {
        tenant: tenant.slug.to_string(),
        reservation: answer.reservation,
        metric,
        unit,
        amount: answer.amount,
        used: answer.used,
        limit: answer.limit_value,
        remaining: answer.limit_value.map(|limit| (limit - answer.used).max(0)),
        expires_at: answer.expires_at,
        state: answer.state.unwrap_or_default(),
        outcome,
    })
}

/// Makes a reservation usage: all of it, or the `amount` that was used in the end, and what is left goes back. It may be
/// late, as long as nobody needed the room. A replay gets [`Decision::Duplicate`].
///
/// # Errors
/// [`Error::NotFound`] for the tenant or (of kind `reservation`) the reservation; [`Error::Conflict`] where it is released
/// or expired, was committed with another amount, or has a key of another metric's usage; [`Error::Invalid`] for more than is reserved.
pub async fn commit(
    transaction: &mut Transaction<'_>,
    tenant: &TenantRef,
    reservation: Uuid,
    amount: Option<&str>,
) -> Result<Tracked> {
    let (tenant, unit) = find(transaction, tenant, reservation).await?;
    let given = amount
        .map(|text| unit.parse_amount(text).map_err(|reason| Error::invalid("amount", text, reason)))
        .transpose()?;
    transaction.enter_tenant(tenant.id).await?;
    let answer = sqlx::query_file!("sql/usage/commit.sql", tenant.id.0, reservation, given)
        .fetch_one(&mut **transaction)
        .await
        .map_err(|error| match code(&error).as_deref() {
            Some("TN003") => {
                Error::invalid("amount", amount.unwrap_or_default(), "it is not within what is reserved")
            }
            Some("TN006") => conflict(reservation, "was committed with another amount"),
            Some("TN012") => conflict(reservation, "has a key that was used for another metric"),
            _ => failed(error, reservation),
        })?;
    Ok(Tracked {
        tenant: tenant.slug.to_string(),
        metric: answer.metric,
        unit,
        amount: answer.amount,
        used: answer.used,
        limit: answer.limit_value,
        remaining: answer.limit_value.map(|limit| (limit - answer.used).max(0)),
        period_start: answer.period_start,
        outcome: if answer.outcome == "accepted" { Decision::Accepted } else { Decision::Duplicate },
    })
}

/// Gives a reservation back. It is unchanged where that was done before.
///
/// # Errors
/// [`Error::NotFound`] for the tenant or (of kind `reservation`) the reservation; [`Error::Conflict`] where it is committed.
pub async fn release(
    transaction: &mut Transaction<'_>,
    tenant: &TenantRef,
    reservation: Uuid,
) -> Result<Change<Released>> {
    let (tenant, unit) = find(transaction, tenant, reservation).await?;
    transaction.enter_tenant(tenant.id).await?;
    let answer = sqlx::query_file!("sql/usage/release.sql", tenant.id.0, reservation)
        .fetch_one(&mut **transaction)
        .await
        .map_err(|error| failed(error, reservation))?;
    let value = Released {
        tenant: tenant.slug.to_string(),
        reservation,
        metric: answer.metric,
        unit,
        amount: answer.amount,
        used: answer.used,
    };
    Ok(Change { outcome: if answer.released { Outcome::Removed } else { Outcome::Unchanged }, value })
}

async fn find(
    transaction: &mut Transaction<'_>,
    tenant: &TenantRef,
    reservation: Uuid,
) -> Result<(Tenant, Unit)> {
    let tenant = tenant::find(transaction, tenant).await?;
    let row = sqlx::query_file!("sql/usage/reservation.sql", tenant.id.0, reservation)
        .fetch_optional(&mut **transaction)
        .await?
        .ok_or_else(|| missing(reservation))?;
    Ok((tenant, row.unit.parse()?))
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(Into::into)
}

fn failed(error: sqlx::Error, reservation: Uuid) -> Error {
    match code(&error).as_deref() {
        Some("TN008") => conflict(
            reservation,
            error.as_database_error().map_or("", |e| e.message()).rsplit(' ').next().map_or(
                "is closed",
                |state| match state {
                    "released" => "is released",
                    "expired" => "expired, and somebody needed the room",
                    _ => "is committed",
                },
            ),
        ),
        Some("TN009") => missing(reservation),
        _ => error.into(),
    }
}

fn conflict(reservation: Uuid, reason: &str) -> Error {
    Error::Conflict {
        kind: "reservation",
        name: reservation.to_string(),
        reason: reason.into(),
        hint: (reason != "is committed")
            .then(|| "`tenantctl usage track` records usage, if the limit allows it".into()),
    }
}

fn missing(reservation: Uuid) -> Error {
    Error::NotFound { kind: "reservation", name: reservation.to_string(), suggestion: None }
}
