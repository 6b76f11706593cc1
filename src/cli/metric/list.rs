//! `tenantctl metric list`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::metric::{self, Metric, Reset};

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct List(Vec<Metric>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<List> {
        Ok(List(app.read(async |tx| metric::list(tx).await).await?))
    }
}

impl Report for List {
    fn view(&self) -> View {
        View::List {
            headers: vec!["METRIC", "NAME", "UNIT", "KIND", "RESET", "AGGREGATION", "SOURCE", "DEFAULT"],
            rows: self
                .0
                .iter()
                .map(|metric| {
                    let reset = metric.reset.as_str();
                    vec![
                        metric.key.clone(),
                        metric.name.clone(),
                        metric.unit.as_str().to_owned(),
                        metric.kind.as_str().to_owned(),
                        match metric.reset {
                            Reset::Monthly => format!("{reset}, on day {}", metric.anchor_day),
                            Reset::Never | Reset::Daily => reset.to_owned(),
                        },
                        metric.aggregation.as_str().to_owned(),
                        metric.source.as_str().to_owned(),
                        crate::cli::usage::limit(metric.unit, metric.default, metric.soft),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|metric| metric.key.clone()).collect()
    }
}
