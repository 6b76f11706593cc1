//! `tenantctl usage meter detach`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::meter::{self, Meter};

use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Key of what is counted
    metric: String,
    /// Only from this table [default: all that it is counted from]
    #[arg(long)]
    table: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Detached {
    #[serde(flatten)]
    meter: Meter,
    outcome: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Done(Vec<Detached>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Done> {
        let mut session = app.session().await?;
        // The table is changed as the connecting role.
        let mut transaction = session.begin_checked().await?;
        let change = meter::detach(&mut transaction, &self.metric, self.table.as_deref()).await?;
        if self.dry_run.dry_run {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        let (outcome, dry_run) = (change.outcome.as_str(), self.dry_run.dry_run);
        Ok(Done(change.value.into_iter().map(|meter| Detached { meter, outcome, dry_run }).collect()))
    }
}

impl Report for Done {
    fn view(&self) -> View {
        View::List {
            headers: vec!["METRIC", "TABLE", "OUTCOME"],
            rows: self
                .0
                .iter()
                .map(|one| vec![one.meter.metric.clone(), one.meter.table.clone(), one.outcome.to_owned()])
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|one| super::id(&one.meter)).collect()
    }

    fn notes(&self) -> Vec<String> {
        let word = |one: &Detached| if one.dry_run { "would stop" } else { "stopped" };
        self.0
            .iter()
            .map(|one| format!("{} counting {} from {}", word(one), one.meter.metric, one.meter.table))
            .collect()
    }
}
