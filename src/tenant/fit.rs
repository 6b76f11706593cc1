//! Whether what a tenant uses fits a plan.

use sqlx::PgConnection;

use super::Tenant;
use crate::plan::Plan;
use crate::{Error, Excess, Result};

/// Makes sure that what a tenant uses fits a plan. The counters stay locked until the transaction ends, so that nothing
/// is added between this look and the change of plan.
pub(super) async fn check(connection: &mut PgConnection, tenant: &Tenant, plan: &Plan) -> Result<()> {
    let counters =
        sqlx::query_file!("sql/usage/lock_counters.sql", tenant.id.0).fetch_all(connection).await?;
    let excesses: Vec<Excess> = counters
        .into_iter()
        .filter_map(|counter| {
            let limit = plan.limits.iter().find(|l| l.metric == counter.metric)?.limit?;
            (counter.used > limit).then_some(Excess { metric: counter.metric, used: counter.used, limit })
        })
        .collect();
    if excesses.is_empty() {
        return Ok(());
    }
    Err(Error::PlanTooSmall { tenant: tenant.slug.to_string(), plan: plan.key.clone(), excesses })
}
