//! `tenantctl rls`.

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {}

impl Verb {
    pub(crate) async fn run(self, _app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        match self {}
    }
}
