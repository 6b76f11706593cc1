//! `tenantctl limit set`.

use clap::Args as ClapArgs;
use tenancy::limit::{self, NewOverride};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Changed;
use crate::cli::app::{App, DryRun};
use crate::cli::tenant::TenantArg;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// Key of what is counted
    metric: String,
    /// A whole number, a size such as 5GB where bytes are counted, or unlimited
    #[arg(value_name = "VALUE", allow_hyphen_values = true)]
    value: String,
    /// Admit what goes over it, and mark it
    #[arg(long)]
    soft: bool,
    /// Until when it holds, as 2027-01-31T00:00:00Z, or how long from now, as 30d [default: for ever]
    #[arg(long, value_name = "TIME|DURATION", value_parser = parse_expiry)]
    expires: Option<OffsetDateTime>,
    /// Why, for whoever asks later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

fn parse_expiry(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(at);
    }
    let wrong = || "write a time such as 2027-01-31T00:00:00Z, or a duration such as 30d or 12h".to_owned();
    let duration = humantime::parse_duration(text.trim()).map_err(|_| wrong())?;
    time::Duration::try_from(duration)
        .ok()
        .and_then(|duration| OffsetDateTime::now_utc().checked_add(duration))
        .ok_or_else(|| "it is later than the year 9999".to_owned())
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Changed> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let new = NewOverride {
            metric: self.metric,
            limit: self.value,
            soft: self.soft,
            expires_at: self.expires,
            reason: self.reason,
        };
        let change = app.write(self.dry_run, async |tx| limit::set(tx, &tenant, &new).await).await?;
        Ok(Changed::new(change, self.dry_run, "set", "set"))
    }
}
