//! `tenantctl user update`.

use clap::Args as ClapArgs;
use tenancy::user::{self, Role, UserRef};

use super::{Changed, Permissions};
use crate::cli::app::{App, DryRun};
use crate::cli::tenant::TenantArg;

#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["role", "permissions"]))]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// E-mail address or UUID of the user
    user: UserRef,
    /// New role: owner, admin, member or viewer
    #[arg(long)]
    role: Option<Role>,
    #[command(flatten)]
    permissions: Permissions,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Changed> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let environment = app.environment();
        let (user, role, permissions) = (self.user, self.role, self.permissions.into_map());
        let change = app
            .write(self.dry_run, async |tx| {
                user::update(tx, &tenant, &user, role, &permissions, &environment).await
            })
            .await?;
        Ok(Changed::new(change, self.dry_run, "updated", "update"))
    }
}
