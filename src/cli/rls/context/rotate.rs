//! `tenantctl rls context rotate`.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::context;

use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How long the old key stays valid; zero refuses what it signed at once
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    grace: Duration,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Rotated {
    key: String,
    grace_seconds: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    word: String,
}

impl Args {
    pub(super) async fn run(self, app: &mut App) -> anyhow::Result<Rotated> {
        let key = app.write(self.dry_run, async |tx| context::rotate(tx, self.grace).await).await?;
        Ok(Rotated {
            key,
            grace_seconds: self.grace.as_secs(),
            dry_run: self.dry_run.dry_run,
            word: self.dry_run.word("made", "make"),
        })
    }
}

impl Report for Rotated {
    fn view(&self) -> View {
        View::Record(vec![("KEY", self.key.clone()), ("GRACE", format!("{} s", self.grace_seconds))])
    }

    fn ids(&self) -> Vec<String> {
        vec![self.key.clone()]
    }

    fn notes(&self) -> Vec<String> {
        vec![format!(
            "{} a new key that signs the context; give it to the services with `tenantctl rls context key`",
            self.word
        )]
    }
}
