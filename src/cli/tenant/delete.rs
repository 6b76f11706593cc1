//! `tenantctl tenant delete`.

use clap::Args as ClapArgs;
use tenancy::tenant::{self, Status};
use time::Duration;

use super::{Changed, TenantArg};
use crate::cli::app::{App, Confirmation, DryRun};
use crate::cli::existing::{Existing, is_not_found};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// It is no failure where there is no such tenant
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
        let found = app.read(async |tx| tenant::find(tx, &reference).await).await;
        let found = match found {
            Err(error) if self.if_exists && is_not_found(&error) => {
                return Ok(Existing::absent(format!("there is no tenant {reference} (unchanged)")));
            }
            found => found?,
        };
        let days = app.config.grace_days.value;
        if found.status != Status::Deleted && !self.dry_run.dry_run {
            let what = format!(
                "delete tenant {} ({}, {} users, plan {}; its data is kept for {days} days)",
                found.slug, found.name, found.user_count, found.plan
            );
            app.confirm(found.slug.as_str(), &what, &self.confirmation).await?;
        }
        let grace = Duration::days(days.into());
        let change = app.write(self.dry_run, async |tx| tenant::delete(tx, &reference, grace).await).await?;
        let changed = Changed::new(change, self.dry_run, "deleted", "delete", "is deleted already");
        Ok(Existing::Found(Box::new(changed)))
    }
}
