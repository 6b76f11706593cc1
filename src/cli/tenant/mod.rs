//! `tenantctl tenant`.

mod create;
mod delete;
mod list;
mod resume;
mod show;
mod suspend;
mod update;

use serde::Serialize;
use tenancy::tenant::Tenant;
use tenancy::{Change, Outcome};

use super::app::{App, DryRun};
use super::completions::tenant_slugs;
use crate::output::{Printable, Report, View};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Create a tenant
    Create(create::Args),
    /// List tenants
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show one tenant
    Show(show::Args),
    /// Change a tenant
    Update(update::Args),
    /// Bar a tenant from new usage
    Suspend(suspend::Args),
    /// Let a suspended tenant go on
    Resume(resume::Args),
    /// Delete a tenant; its data stays until the grace period is over
    Delete(delete::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Create(args) => Box::new(args.run(app).await?),
            Self::List(args) => Box::new(args.run(app).await?),
            Self::Show(args) => Box::new(args.run(app).await?),
            Self::Update(args) => Box::new(args.run(app).await?),
            Self::Suspend(args) => Box::new(args.run(app).await?),
            Self::Resume(args) => Box::new(args.run(app).await?),
            Self::Delete(args) => Box::new(args.run(app).await?),
        })
    }
}

/// The argument that names a tenant.
#[derive(Debug, clap::Args)]
pub(crate) struct TenantArg {
    /// Slug, UUID, earlier slug, or host name under the base domain
    #[arg(value_name = "TENANT", add = clap_complete::ArgValueCompleter::new(tenant_slugs))]
    pub(crate) tenant: String,
}

/// A tenant after a verb that changes it.
#[derive(Serialize)]
pub(crate) struct Changed {
    #[serde(flatten)]
    change: Change<Tenant>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    note: String,
}

impl Changed {
    /// Words for the change: what was `done`, what a dry run `would` do, and what it is where nothing changed.
    fn new(change: Change<Tenant>, dry_run: DryRun, done: &str, would: &str, already: &str) -> Self {
        let slug = &change.value.slug;
        let note = match change.outcome {
            Outcome::Unchanged => format!("tenant {slug} {already} (unchanged)"),
            _ => format!("{} tenant {slug}", dry_run.word(done, would)),
        };
        Self { change, dry_run: dry_run.dry_run, note }
    }
}

impl Report for Changed {
    fn view(&self) -> View {
        record(&self.change.value)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.change.value.slug.to_string()]
    }

    fn notes(&self) -> Vec<String> {
        vec![self.note.clone()]
    }
}

fn record(tenant: &Tenant) -> View {
    let mut fields = vec![
        ("SLUG", tenant.slug.to_string()),
        ("NAME", tenant.name.clone()),
        ("ID", tenant.id.to_string()),
        ("STATUS", tenant.status.as_str().to_owned()),
        ("PLAN", tenant.plan.clone()),
        ("USERS", tenant.user_count.to_string()),
    ];
    let optional = [
        ("CONTACT", tenant.contact_email.clone()),
        ("TYPE", tenant.organization_type.clone()),
        ("WEB SITE", tenant.website_url.clone()),
        ("BRANDING", object(&tenant.branding)),
        ("SETTINGS", object(&tenant.settings)),
        ("BILLING DAY", tenant.billing_day.map(|day| day.to_string())),
        ("EARLIER SLUGS", (!tenant.aliases.is_empty()).then(|| tenant.aliases.join(", "))),
        ("SUSPENDED", tenant.suspended_at.map(super::time)),
        ("DATA KEPT UNTIL", tenant.purge_after.map(super::time)),
    ];
    fields.extend(optional.into_iter().filter_map(|(label, value)| value.map(|value| (label, value))));
    fields.push(("CREATED", super::time(tenant.created_at)));
    fields.push(("UPDATED", super::time(tenant.updated_at)));
    View::Record(fields)
}

fn object(value: &serde_json::Value) -> Option<String> {
    value.as_object().is_some_and(|object| !object.is_empty()).then(|| value.to_string())
}
