//! `tenantctl user remove`.

use clap::Args as ClapArgs;
use tenancy::tenant;
use tenancy::user::{self, UserRef};

use super::Changed;
use crate::cli::app::{App, Confirmation, DryRun};
use crate::cli::existing::{Existing, is_not_found};
use crate::cli::tenant::TenantArg;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// E-mail address or UUID of the user
    user: UserRef,
    /// It is no failure where they are no member
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Existing<Changed>> {
        let reference = app.tenant(&self.tenant.tenant)?;
        let user = self.user;
        let tenant = app.read(async |tx| tenant::find(tx, &reference).await).await?;
        let found = app.read(async |tx| user::show(tx, &reference, &user).await).await;
        let member = match found {
            Err(error) if self.if_exists && is_not_found(&error) => {
                return Ok(Existing::absent(format!("{user} is no member of {} (unchanged)", tenant.slug)));
            }
            found => found?,
        };
        if !self.dry_run.dry_run {
            let what =
                format!("remove {} ({}) from tenant {}", member.email, member.role.as_str(), tenant.slug);
            app.confirm(tenant.slug.as_str(), &what, &self.confirmation).await?;
        }
        let change = app.write(self.dry_run, async |tx| user::remove(tx, &reference, &user).await).await?;
        Ok(Existing::Found(Box::new(Changed::new(change, self.dry_run, "removed", "remove"))))
    }
}
