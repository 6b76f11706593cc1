//! `tenantctl tenant delete`.

use clap::Args as ClapArgs;
use tenancy::tenant::{self, Status};
use tenancy::{Change, ErrorKind};
use time::Duration;

use super::{Changed, TenantArg};
use crate::cli::app::{App, Confirmation, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
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

/// The tenant that was deleted, or nothing where there was none.
#[derive(serde::Serialize)]
#[serde(untagged)]
pub(super) enum Deleted {
    Tenant(Changed),
    Absent {
        outcome: tenancy::Outcome,
        slug: String,
    },
}

impl Args {
    pub(super) async fn run(self, app: &mut App) -> anyhow::Result<Deleted> {
        let reference = app.tenant(&self.tenant.tenant)?;
        let found = app.read(async |tx| tenant::find(tx, &reference).await).await;
        let found = match found {
            Err(error) if self.if_exists && is_not_found(&error) => {
                return Ok(Deleted::Absent { outcome: tenancy::Outcome::Unchanged, slug: reference.to_string() });
            }
            found => found?,
        };
        let days = app.config.grace_days.value;
        if found.status != Status::Deleted && !self.dry_run.dry_run {
            let what = format!(
                "delete tenant {} ({}, {} users, plan {}; its data is kept for {days} days)",
                found.slug, found.name, found.user_count, found.plan
            );
            app.confirm(found.slug.as_str(), &what, &self.confirmation)?;
        }
        let grace = Duration::days(days.into());
        let change: Change<_> =
            app.write(self.dry_run, async |tx| tenant::delete(tx, &reference, grace).await).await?;
        Ok(Deleted::Tenant(Changed::new(change, self.dry_run, "deleted", "delete", "is deleted already")))
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<tenancy::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

impl Report for Deleted {
    fn view(&self) -> View {
        match self {
            Self::Tenant(changed) => changed.view(),
            Self::Absent { .. } => View::Text(String::new()),
        }
    }

    fn ids(&self) -> Vec<String> {
        match self {
            Self::Tenant(changed) => changed.ids(),
            Self::Absent { .. } => Vec::new(),
        }
    }

    fn notes(&self) -> Vec<String> {
        match self {
            Self::Tenant(changed) => changed.notes(),
            Self::Absent { slug, .. } => vec![format!("there is no tenant {slug} (unchanged)")],
        }
    }
}
