//! `tenantctl usage`.

mod ingest;
mod meter;
mod prune;
mod reconcile;
mod reserve;
mod stats;
mod track;

use tenancy::usage::Unit;

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
