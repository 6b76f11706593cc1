//! `tenantctl rls`.

mod setup;
mod verify;

pub(crate) use verify::text;

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Put every table with a tenant column under row-level security
    Setup(setup::Args),
    /// Prove that no tenant can reach another's rows
    Verify(verify::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Setup(args) => Box::new(args.run(app).await?),
            Self::Verify(args) => Box::new(args.run(app).await?),
        })
    }
}
