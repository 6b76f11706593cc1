//! `tenantctl usage meter list`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::meter::{self, Meter, State};

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only of this metric
    metric: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct List(Vec<Meter>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<List> {
        Ok(List(app.read(async |tx| meter::list(tx, self.metric.as_deref()).await).await?))
    }
}

/// The command that attaches a meter as it is.
fn attach(meter: &Meter) -> String {
    let sum = meter.sum_column.as_ref().map_or_else(String::new, |column| format!(" --sum={}", word(column)));
    format!(
        "tenantctl usage meter attach {} --table={} --tenant-column={}{sum}",
        meter.metric,
        word(&meter.table),
        word(&meter.tenant_column)
    )
}

/// A text as one word of a shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Report for List {
    fn view(&self) -> View {
        View::List {
            headers: vec!["METRIC", "TABLE", "COUNTS", "TENANT COLUMN", "STATE", "SINCE", "BY"],
            rows: self
                .0
                .iter()
                .map(|meter| {
                    vec![
                        meter.metric.clone(),
                        meter.table.clone(),
                        super::counts(meter),
                        meter.tenant_column.clone(),
                        meter.state.as_str().to_owned(),
                        crate::cli::time(meter.attached_at),
                        meter.attached_by.clone(),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(super::id).collect()
    }

    fn notes(&self) -> Vec<String> {
        self.0
            .iter()
            .filter_map(|meter| match meter.state {
                State::Counting => None,
                State::Incomplete => Some(format!(
                    "not every write to {} is counted: attach it again with `{}` (and the new name of a column that was \
                     renamed)",
                    meter.table,
                    attach(meter)
                )),
                State::Gone => Some(format!(
                    "{} is gone: `tenantctl usage meter detach {} --table={}` forgets it",
                    meter.table,
                    meter.metric,
                    word(&meter.table)
                )),
            })
            .collect()
    }
}
