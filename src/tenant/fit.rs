//! Whether what a tenant uses fits a plan.

use sqlx::PgConnection;

use super::Tenant;
use crate::plan::EnvironmentLimits;
use crate::usage::StandIns;
use crate::{Error, Excess, Result};

/// Makes sure that what a tenant uses fits a plan. The counters stay locked until the transaction ends, so that nothing
/// is added between this look and the change of plan. What a soft limit lets pass stands in the way of nothing.
pub(super) async fn check(
    connection: &mut PgConnection,
    tenant: &Tenant,
    plan: &str,
    environment: &EnvironmentLimits,
) -> Result<()> {
    let stand_ins = StandIns::of(connection, plan, environment).await?;
    let mut counters = sqlx::query_file!(
        "sql/usage/lock_counters.sql",
        tenant.id.0,
        plan,
        &stand_ins.metrics,
        &stand_ins.limits
    )
    .fetch_all(connection)
    .await?;
    // They were locked in the order that keeps from deadlocks; people know the catalogue's.
    counters.sort_by(|a, b| (a.position, &a.metric).cmp(&(b.position, &b.metric)));
    let excesses: Vec<Excess> = counters
        .into_iter()
        .filter_map(|counter| {
            let limit = counter.limit_value.filter(|_| !counter.soft)?;
            (counter.used > limit).then_some(Excess { metric: counter.metric, used: counter.used, limit })
        })
        .collect();
    if excesses.is_empty() {
        return Ok(());
    }
    Err(Error::PlanTooSmall { tenant: tenant.slug.to_string(), plan: plan.to_owned(), excesses })
}
