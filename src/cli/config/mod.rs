//! `tenantctl config`.

mod path;
mod show;

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show every setting and where it comes from
    Show(show::Args),
    /// Print the configuration files in use
    Path(path::Args),
}

impl Verb {
    pub(crate) fn run(self, app: &App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Show(args) => Box::new(args.run(app)),
            Self::Path(args) => Box::new(args.run(app)),
        })
    }
}
