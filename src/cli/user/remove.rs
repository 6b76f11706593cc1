//! `tenantctl user remove`.

use clap::Args as ClapArgs;
use tenancy::tenant;
use tenancy::user::{self, UserRef};
use tenancy::{Change, Error, ErrorKind, Outcome};

use super::Changed;
use crate::cli::app::{App, Confirmation, DryRun};
use crate::cli::tenant::TenantArg;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
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

/// The membership that was ended, or nothing where there was none.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum Removed {
    Member(Changed),
    Absent {
        outcome: Outcome,
        email: String,
    },
}

impl Args {
    pub(super) async fn run(self, app: &mut App) -> anyhow::Result<Removed> {
        let reference = app.tenant(&self.tenant.tenant)?;
        let user = self.user;
        let tenant = app.read(async |tx| tenant::find(tx, &reference).await).await?;
        let found = app.read(async |tx| user::show(tx, &reference, &user).await).await;
        let member = match found {
            Err(error) if self.if_exists && error.downcast_ref().map(Error::kind) == Some(ErrorKind::NotFound) => {
                return Ok(Removed::Absent { outcome: Outcome::Unchanged, email: user.to_string() });
            }
            found => found?,
        };
        if !self.dry_run.dry_run {
            let what = format!("remove {} ({}) from tenant {}", member.email, member.role.as_str(), tenant.slug);
            app.confirm(tenant.slug.as_str(), &what, &self.confirmation)?;
        }
        let change: Change<_> =
            app.write(self.dry_run, async |tx| user::remove(tx, &reference, &user).await).await?;
        Ok(Removed::Member(Changed::new(change, self.dry_run, "removed", "remove")))
    }
}

impl Report for Removed {
    fn view(&self) -> View {
        match self {
            Self::Member(changed) => changed.view(),
            Self::Absent { .. } => View::Text(String::new()),
        }
    }

    fn ids(&self) -> Vec<String> {
        match self {
            Self::Member(changed) => changed.ids(),
            Self::Absent { .. } => Vec::new(),
        }
    }

    fn notes(&self) -> Vec<String> {
        match self {
            Self::Member(changed) => changed.notes(),
            Self::Absent { email, .. } => vec![format!("{email} is no member (unchanged)")],
        }
    }
}
