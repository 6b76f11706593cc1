//! `tenantctl tenant update`.

use clap::Args as ClapArgs;
use serde_json::Value;
use tenancy::Error;
use tenancy::tenant::{self, BillingDay, Update};

use super::{Changed, TenantArg};
use crate::cli::app::{App, DryRun};

#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// New name
    #[arg(long, group = "change")]
    name: Option<String>,
    /// New plan; refused where the tenant uses more than it allows
    #[arg(long, group = "change")]
    plan: Option<String>,
    /// New contact; empty to remove it
    #[arg(long, value_name = "EMAIL", group = "change")]
    contact_email: Option<String>,
    /// New sort of organization; empty to remove it
    #[arg(long, value_name = "TYPE", group = "change")]
    organization_type: Option<String>,
    /// New web site; empty to remove it
    #[arg(long, value_name = "URL", group = "change")]
    website_url: Option<String>,
    /// Day of the month that its monthly periods begin on, or `none` for that of each metric; a changed day begins a new
    /// period, with nothing used of it
    #[arg(long, value_name = "DAY", value_parser = parse_billing_day, group = "change")]
    billing_day: Option<NewDay>,
    /// Put a value into branding or settings, as branding.primary_color=#336699; null removes it
    #[arg(long, value_name = "PATH=VALUE", value_parser = parse_set, group = "change")]
    set: Vec<(String, Value)>,
    #[command(flatten)]
    dry_run: DryRun,
}

/// A day, or none.
#[derive(Debug, Clone, Copy)]
struct NewDay(Option<BillingDay>);

fn parse_billing_day(text: &str) -> Result<NewDay, Error> {
    if text == "none" { Ok(NewDay(None)) } else { text.parse().map(|day| NewDay(Some(day))) }
}

/// A path and a value: JSON where it reads as JSON, else the text itself.
fn parse_set(text: &str) -> Result<(String, Value), Error> {
    let (path, value) = text.split_once('=').ok_or_else(|| Error::Invalid {
        field: "set",
        value: text.into(),
        reason: "it has no =".into(),
        hint: Some("write branding.KEY=VALUE or settings.KEY=VALUE".into()),
    })?;
    Ok((path.into(), serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()))))
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Changed> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let environment = app.environment();
        let update = Update {
            name: self.name,
            plan: self.plan,
            contact_email: self.contact_email,
            organization_type: self.organization_type,
            website_url: self.website_url,
            billing_day: self.billing_day.map(|NewDay(day)| day),
            set: self.set,
        };
        let change = app
            .write(self.dry_run, async |tx| tenant::update(tx, &tenant, &update, &environment).await)
            .await?;
        Ok(Changed::new(change, self.dry_run, "updated", "update", "is like that already"))
    }
}
