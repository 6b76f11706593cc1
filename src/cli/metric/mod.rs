//! `tenantctl metric`.

mod list;

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List what is counted, and how
    #[command(visible_alias = "ls")]
    List(list::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::List(args) => Box::new(args.run(app).await?),
        })
    }
}
