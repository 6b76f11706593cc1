//! `tenantctl usage reserve`, `commit` and `release`.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::{self, Decision, Released, Reservation, Reserve};
use tenancy::{Change, Outcome};
use uuid::Uuid;

use super::track;
use crate::cli::app::{App, DryRun};
use crate::cli::tenant::TenantArg;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct ReserveArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// What is to be used
    #[arg(long)]
    metric: String,
    /// How much: a whole number, or a size such as 5GB where bytes are counted
    #[arg(long, default_value = "1")]
    amount: String,
    /// How long it is held; afterwards it goes to whoever needs the room
    #[arg(long = "for", value_name = "TIME", default_value = "15m", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// Makes it safe to repeat: the same key again gets the first reservation
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CommitArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The reservation that `usage reserve` made
    reservation: Uuid,
    /// How much was used in the end, where it is less than was reserved; what is left goes back
    #[arg(long)]
    amount: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The reservation that `usage reserve` made
    reservation: Uuid,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Reserved {
    #[serde(flatten)]
    reservation: Reservation,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

#[derive(Serialize)]
pub(crate) struct Gone {
    #[serde(flatten)]
    change: Change<Released>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

impl ReserveArgs {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Reserved> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let environment = app.environment();
        let wanted = Reserve { metric: self.metric, amount: self.amount, ttl: self.ttl, key: self.key };
        let reservation = app
            .write(self.dry_run, async |tx| usage::reserve(tx, &tenant, &wanted, &environment).await)
            .await?;
        Ok(Reserved { reservation, dry_run: self.dry_run.dry_run })
    }
}

impl CommitArgs {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<track::Answer> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let tracked = app
            .write(self.dry_run, async |tx| {
                usage::commit(tx, &tenant, self.reservation, self.amount.as_deref()).await
            })
            .await?;
        Ok(track::Answer::of(tracked, self.dry_run))
    }
}

impl ReleaseArgs {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Gone> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let change =
            app.write(self.dry_run, async |tx| usage::release(tx, &tenant, self.reservation).await).await?;
        Ok(Gone { change, dry_run: self.dry_run.dry_run })
    }
}

impl Report for Reserved {
    fn view(&self) -> View {
        let made = &self.reservation;
        View::Record(vec![
            ("TENANT", made.tenant.clone()),
            ("RESERVATION", made.reservation.map_or_else(String::new, |id| id.to_string())),
            ("METRIC", made.metric.clone()),
            ("AMOUNT", made.unit.format(made.amount)),
            ("USED", made.unit.format(made.used)),
            ("LIMIT", super::bound(made.unit, made.limit)),
            ("REMAINING", super::bound(made.unit, made.remaining)),
            ("EXPIRES", made.expires_at.map_or_else(String::new, crate::cli::time)),
            ("STATE", made.state.clone()),
        ])
    }

    fn ids(&self) -> Vec<String> {
        self.reservation.reservation.iter().map(Uuid::to_string).collect()
    }

    fn notes(&self) -> Vec<String> {
        let made = &self.reservation;
        match (made.outcome, self.dry_run) {
            (Decision::Duplicate, _) => vec!["the key was seen before (unchanged)".into()],
            (_, true) => vec![format!("would reserve {} of {}", made.metric, made.tenant)],
            _ => Vec::new(),
        }
    }
}

impl Report for Gone {
    fn view(&self) -> View {
        let gone = &self.change.value;
        View::Record(vec![
            ("TENANT", gone.tenant.clone()),
            ("RESERVATION", gone.reservation.to_string()),
            ("METRIC", gone.metric.clone()),
            ("AMOUNT", gone.unit.format(gone.amount)),
            ("USED", gone.unit.format(gone.used)),
        ])
    }

    fn ids(&self) -> Vec<String> {
        vec![self.change.value.reservation.to_string()]
    }

    fn notes(&self) -> Vec<String> {
        let gone = &self.change.value;
        let what = match (self.change.outcome, self.dry_run) {
            (Outcome::Unchanged, _) => "was given back before (unchanged)",
            (_, true) => "would be given back",
            _ => "is given back",
        };
        vec![format!("{} of {} {what}", gone.unit.format(gone.amount), gone.metric)]
    }
}
