//! `tenantctl rls context`.

mod key;
mod rotate;
mod show;

use crate::cli::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show whether the context has to be signed, and with which keys
    Show(show::Args),
    /// Sign with a new key from now on; the old one is valid for a while
    Rotate(rotate::Args),
    /// Write the key that signs to a file, for a service
    Key(key::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Show(args) => Box::new(args.run(app).await?),
            Self::Rotate(args) => Box::new(args.run(app).await?),
            Self::Key(args) => Box::new(args.run(app).await?),
        })
    }
}
