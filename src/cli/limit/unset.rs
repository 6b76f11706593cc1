//! `tenantctl limit unset`.

use clap::Args as ClapArgs;
use tenancy::{Error, limit};

use super::Changed;
use crate::cli::app::{App, DryRun};
use crate::cli::existing::Existing;
use crate::cli::tenant::TenantArg;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// Key of what is counted
    metric: String,
    /// It is no failure where the tenant has no limit of its own
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Existing<Changed>> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let gone = app.write(self.dry_run, async |tx| limit::unset(tx, &tenant, &self.metric).await).await;
        let change = match gone {
            Err(error) if self.if_exists && is_absent(&error) => {
                return Ok(Existing::absent(format!(
                    "{tenant} has no limit of {} of its own (unchanged)",
                    self.metric
                )));
            }
            gone => gone?,
        };
        Ok(Existing::Found(Box::new(Changed::new(change, self.dry_run, "removed", "remove"))))
    }
}

/// A tenant or a metric that does not exist is a failure all the same.
fn is_absent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NotFound { kind: "override", .. }))
}
