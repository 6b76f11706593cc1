//! `tenantctl usage prune`.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::{self, Pruned};

use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// How long single events, and with them their keys, are kept at least; usage by day is kept for ever
    #[arg(long, default_value = "90d", value_parser = humantime::parse_duration)]
    keep: Duration,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Done {
    #[serde(flatten)]
    pruned: Pruned,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Done> {
        let mut session = app.session().await?;
        let dry_run = self.dry_run.dry_run;
        Ok(Done { pruned: usage::prune(&mut session, self.keep, dry_run).await?, dry_run })
    }
}

impl Report for Done {
    fn view(&self) -> View {
        View::Record(vec![
            ("DROPPED", self.pruned.dropped.to_string()),
            ("EVENTS", self.pruned.events.to_string()),
            ("OPENED", if self.pruned.opened { "yes" } else { "no" }.to_owned()),
        ])
    }

    fn ids(&self) -> Vec<String> {
        Vec::new()
    }

    fn notes(&self) -> Vec<String> {
        let what = if self.dry_run { "would drop" } else { "dropped" };
        vec![format!(
            "{what} {} events in {} parts of the ledger; their usage by day is kept",
            self.pruned.events, self.pruned.dropped
        )]
    }
}
