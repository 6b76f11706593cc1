//! `tenantctl demo`.
use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
impl Args {
    pub(crate) async fn run(self, _app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        anyhow::bail!("pending")
    }
}
