//! `tenantctl usage stats`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::{self, Stat};

use crate::cli::app::App;
use crate::cli::tenant::TenantArg;
use crate::output::{Report, View, bar};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Stats(Vec<Stat>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Stats> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let environment = app.environment();
        Ok(Stats(app.read(async |tx| usage::stats(tx, &tenant, &environment).await).await?))
    }
}

impl Report for Stats {
    fn view(&self) -> View {
        View::List {
            headers: vec!["METRIC", "USED", "LIMIT", "REMAINING", "PERCENT", "SOURCE", "USAGE"],
            rows: self
                .0
                .iter()
                .map(|stat| {
                    vec![
                        stat.metric.clone(),
                        stat.unit.format(stat.used),
                        super::limit(stat.unit, stat.limit, stat.soft),
                        super::bound(stat.unit, stat.remaining),
                        stat.percent.map_or_else(String::new, |percent| format!("{percent:.1} %")),
                        stat.source.as_str().to_owned(),
                        stat.percent.map_or_else(String::new, bar),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|stat| stat.metric.clone()).collect()
    }
}
