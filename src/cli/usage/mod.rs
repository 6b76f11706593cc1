//! `tenantctl usage`.

mod alerts;
mod forecast;
mod history;
mod ingest;
mod meter;
mod prune;
mod reconcile;
mod reserve;
mod stats;
mod track;

use tenancy::usage::Unit;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Record usage, if the plan's limit allows it
    Track(track::Args),
    /// Hold usage for work that may fail, if the plan's limit allows it
    Reserve(reserve::ReserveArgs),
    /// Record usage that was reserved
    Commit(reserve::CommitArgs),
    /// Give back usage that was reserved
    Release(reserve::ReleaseArgs),
    /// Record the usage that a file tells of, a line each
    Ingest(ingest::Args),
    /// Show what a tenant has used of its limits
    Stats(stats::Args),
    /// Drop single events that are older than usage is to be kept
    Prune(prune::Args),
    /// Count metrics from the platform's own tables
    #[command(subcommand)]
    Meter(meter::Verb),
    /// Compare counters with what they should hold, and set them right
    Reconcile(reconcile::Args),
    /// Show what a tenant used day by day, or entry by entry
    History(history::Args),
    /// Forecast when a tenant reaches its limits
    Forecast(forecast::Args),
    /// List the thresholds of limits that use has reached, newest first
    Alerts(alerts::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Track(args) => Box::new(args.run(app).await?),
            Self::Reserve(args) => Box::new(args.run(app).await?),
            Self::Commit(args) => Box::new(args.run(app).await?),
            Self::Release(args) => Box::new(args.run(app).await?),
            Self::Ingest(args) => Box::new(args.run(app).await?),
            Self::Prune(args) => Box::new(args.run(app).await?),
            Self::Stats(args) => Box::new(args.run(app).await?),
            Self::Meter(verb) => verb.run(app).await?,
            Self::Reconcile(args) => Box::new(args.run(app).await?),
            Self::History(args) => Box::new(args.run(app).await?),
            Self::Forecast(args) => Box::new(args.run(app).await?),
            Self::Alerts(args) => Box::new(args.run(app).await?),
        })
    }
}

/// A limit; a soft one is marked.
pub(super) fn limit(unit: Unit, limit: Option<i64>, soft: bool) -> String {
    let mark = if soft && limit.is_some() { " (soft)" } else { "" };
    format!("{}{mark}", bound(unit, limit))
}

/// An amount, or that there is no bound to it.
pub(super) fn bound(unit: Unit, amount: Option<i64>) -> String {
    amount.map_or_else(|| "unlimited".to_owned(), |amount| unit.format(amount))
}

/// A time, as it is written on the command line.
fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| format!("{error}; write for example 2026-11-30T12:00:00Z"))
}
