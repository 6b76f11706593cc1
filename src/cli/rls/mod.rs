//! `tenantctl rls`.

mod checks;
mod explain;
mod mutate;
mod report_file;
mod repro;
mod setup;
mod verify;

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Put every table with a tenant column under row-level security
    Setup(setup::Args),
    /// Prove that no tenant can reach another's rows
    Verify(verify::Args),
    /// List the checks of `rls verify`
    Checks(checks::Args),
    /// Explain a check: what an intruder does with the defect, how it is found and mended
    Explain(explain::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Setup(args) => Box::new(args.run(app).await?),
            Self::Verify(args) => args.run(app).await?,
            Self::Checks(args) => Box::new(args.run()),
            Self::Explain(args) => Box::new(args.run()?),
        })
    }
}
