//! `tenantctl db`.

mod migrate;
mod start;
mod status;
mod stop;

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Create the control plane, or bring it up to date
    Migrate(migrate::Args),
    /// Start the private server
    Start(start::Args),
    /// Stop the private server
    Stop(stop::Args),
    /// Show where the database is, and in what state
    Status(status::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Migrate(args) => Box::new(args.run(app).await?),
            Self::Start(args) => Box::new(args.run(app)?),
            Self::Stop(args) => Box::new(args.run(app)?),
            Self::Status(args) => Box::new(args.run(app).await?),
        })
    }
}
