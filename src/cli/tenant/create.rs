//! `tenantctl tenant create`.

use clap::Args as ClapArgs;
use serde_json::Map;
use tenancy::db::Transaction;
use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::{self, BillingDay, NewTenant, Slug, Tenant, TenantRef};
use tenancy::user::{self, NewMembership, Role, UserRef};
use tenancy::{Change, Outcome};

use super::Changed;
use crate::cli::app::{App, DryRun};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Name of the tenant, for people
    name: Option<String>,
    /// Unique short name, also its host name [default: made from the name]
    #[arg(long)]
    slug: Option<Slug>,
    /// Plan [default: the catalogue's default plan]
    #[arg(long)]
    plan: Option<String>,
    /// Whom to write to
    #[arg(long, value_name = "EMAIL")]
    contact_email: Option<String>,
    /// E-mail address or UUID of the user who owns it
    #[arg(long, value_name = "USER")]
    owner: Option<UserRef>,
    /// What sort of organization it is
    #[arg(long, value_name = "TYPE")]
    organization_type: Option<String>,
    /// Its web site
    #[arg(long, value_name = "URL")]
    website_url: Option<String>,
    /// Day of the month that its monthly periods begin on [default: that of each metric]
    #[arg(long, value_name = "DAY")]
    billing_day: Option<BillingDay>,
    /// Leave a tenant of the same slug as it is
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Changed> {
        let asked = self.name.is_none();
        let name = match self.name {
            Some(name) => name,
            None => app.ask("name", "Name of the tenant", None).await?,
        };
        let derived = Slug::from_name(&name);
        let slug = match self.slug {
            Some(slug) => slug,
            None if asked => {
                app.ask("slug", "Slug", derived.ok().map(|slug| slug.to_string())).await?.parse()?
            }
            None => derived?,
        };
        let plan = match self.plan {
            None if asked => choose_plan(app).await?,
            plan => plan,
        };
        let contact_email = match self.contact_email {
            None if asked => optional(app, "contact_email", "Contact e-mail (empty for none)").await?,
            contact_email => contact_email,
        };
        let owner = match self.owner {
            None if asked => {
                let answer = optional(app, "owner", "E-mail of the owner (empty for none)").await?;
                answer.map(|owner| owner.parse()).transpose()?
            }
            owner => owner,
        };
        let new = NewTenant {
            name,
            slug,
            plan,
            contact_email,
            organization_type: self.organization_type,
            website_url: self.website_url,
            billing_day: self.billing_day,
        };
        let if_not_exists = self.if_not_exists;
        let change =
            app.write(self.dry_run, async |tx| create(tx, &new, owner.as_ref(), if_not_exists).await).await?;
        let created = change.outcome == Outcome::Created;
        let mut changed = Changed::new(change, self.dry_run, "created", "create", "exists already");
        if created {
            let tenant = &changed.change.value;
            let detail = match &owner {
                Some(owner) => format!(" on plan {}, owned by {owner}", tenant.plan),
                None => format!(
                    " on plan {}, without an owner: `tenantctl user add {} EMAIL --role owner` adds one",
                    tenant.plan, tenant.slug
                ),
            };
            changed.note.push_str(&detail);
        } else if owner.is_some() {
            changed.note.push_str("; its owner is left as it is, too");
        }
        Ok(changed)
    }
}

/// The tenant and its owner, in one transaction.
async fn create(
    transaction: &mut Transaction<'_>,
    new: &NewTenant,
    owner: Option<&UserRef>,
    if_not_exists: bool,
) -> tenancy::Result<Change<Tenant>> {
    let mut change = tenant::create(transaction, new, if_not_exists).await?;
    if let (Outcome::Created, Some(owner)) = (change.outcome, owner) {
        let membership = NewMembership { user: owner.clone(), role: Role::Owner, permissions: Map::new() };
        let id = change.value.id;
        user::add(transaction, id, &membership, false, &EnvironmentLimits::default()).await?;
        change.value = tenant::find(transaction, &TenantRef::Id(id)).await?;
    }
    Ok(change)
}

/// Asks for what may be left empty.
async fn optional(app: &App, field: &'static str, prompt: &str) -> anyhow::Result<Option<String>> {
    let answer = app.ask(field, prompt, Some(String::new())).await?;
    Ok((!answer.trim().is_empty()).then_some(answer))
}

async fn choose_plan(app: &mut App) -> anyhow::Result<Option<String>> {
    let environment = app.environment();
    let plans = app.read(async |tx| tenancy::plan::list(tx, &environment).await).await?;
    let names: Vec<String> = plans.iter().map(|plan| plan.key.clone()).collect();
    let default = plans.iter().position(|plan| plan.is_default).unwrap_or_default();
    let chosen = app.choose("Plan", &names, default).await?;
    Ok(names.get(chosen).cloned())
}
