//! `tenantctl tenant suspend`.

use clap::Args as ClapArgs;
use tenancy::tenant;

use super::{Changed, TenantArg};
use crate::cli::app::{App, DryRun};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Changed> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let change = app.write(self.dry_run, async |tx| tenant::suspend(tx, &tenant).await).await?;
        Ok(Changed::new(change, self.dry_run, "suspended", "suspend", "is suspended already"))
    }
}
