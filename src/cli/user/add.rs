//! `tenantctl user add`.

use clap::Args as ClapArgs;
use tenancy::tenant;
use tenancy::user::{self, NewMembership, Role, UserRef};

use super::{Changed, Permissions};
use crate::cli::app::{App, DryRun};
use crate::cli::completions::tenant_slugs;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Slug, UUID, earlier slug, or host name under the base domain
    #[arg(add = clap_complete::ArgValueCompleter::new(tenant_slugs))]
    tenant: Option<String>,
    /// E-mail address or UUID of the user; an unknown address becomes a new user
    user: Option<UserRef>,
    /// What they may do: owner, admin, member or viewer
    #[arg(long)]
    role: Option<Role>,
    #[command(flatten)]
    permissions: Permissions,
    /// Leave a membership that exists as it is
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Changed> {
        let tenant = match self.tenant {
            Some(tenant) => tenant,
            None => app.ask("tenant", "Tenant", None).await?,
        };
        let tenant = app.tenant(&tenant)?;
        let user = match self.user {
            Some(user) => user,
            None => app.ask("user", "E-mail of the user", None).await?.parse()?,
        };
        let role = match self.role {
            Some(role) => role,
            None => choose_role(app).await?,
        };
        let new = NewMembership { user, role, permissions: self.permissions.into_map() };
        let environment = app.environment();
        let if_not_exists = self.if_not_exists;
        let change = app
            .write(self.dry_run, async |tx| {
                let tenant = tenant::find(tx, &tenant).await?;
                user::add(tx, tenant.id, &new, if_not_exists, &environment).await
            })
            .await?;
        Ok(Changed::new(change, self.dry_run, "added", "add"))
    }
}

async fn choose_role(app: &App) -> anyhow::Result<Role> {
    if !app.interactive() {
        return Err(crate::cli::app::missing("role"));
    }
    let names = Role::ALL.map(|role| role.as_str().to_owned());
    let member = Role::ALL.iter().position(|role| *role == Role::Member).unwrap_or_default();
    let chosen = app.choose("Role", &names, member).await?;
    Ok(Role::ALL.get(chosen).copied().unwrap_or(Role::Member))
}
