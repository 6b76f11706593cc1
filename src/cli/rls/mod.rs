//! `tenantctl rls`.

mod checks;
mod context;
mod contract;
mod explain;
mod mutate;
mod online_progress;
mod patience;
mod report_file;
mod repro;
mod setup;
mod source;
mod teardown;
mod verify;

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Put every table with a tenant column under row-level security
    Setup(setup::Args),
    /// Undo what `rls setup` made, and nothing else
    Teardown(teardown::Args),
    /// Prove that no tenant can reach another's rows
    Verify(Box<verify::Args>),
    /// List the checks of `rls verify`
    Checks(checks::Args),
    /// Explain a check: what an intruder does with the defect, how it is found and mended
    Explain(explain::Args),
    /// The context that says which tenant a transaction serves: whether it has to be signed, and the keys
    #[command(subcommand)]
    Context(context::Verb),
    /// Isolation contracts: how a platform that this tool does not manage keeps its tenants apart
    #[command(subcommand)]
    Contract(contract::Verb),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Setup(args) => Box::new(args.run(app).await?),
            Self::Teardown(args) => Box::new(args.run(app).await?),
            Self::Verify(args) => (*args).run(app).await?,
            Self::Checks(args) => Box::new(args.run()),
            Self::Explain(args) => Box::new(args.run()?),
            Self::Context(verb) => verb.run(app).await?,
            Self::Contract(verb) => verb.run(app).await?,
        })
    }
}
