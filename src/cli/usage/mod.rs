//! `tenantctl usage`.

mod stats;
mod track;

use tenancy::usage::Unit;

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Record usage, if the plan's limit allows it
    Track(track::Args),
    /// Show what a tenant has used of its limits
    Stats(stats::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Track(args) => Box::new(args.run(app).await?),
            Self::Stats(args) => Box::new(args.run(app).await?),
        })
    }
}

/// An amount, or that there is no bound to it.
fn bound(unit: Unit, amount: Option<i64>) -> String {
    amount.map_or_else(|| "unlimited".to_owned(), |amount| unit.format(amount))
}
