//! `tenantctl plan list`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::plan::{self, Plan};

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct List(Vec<Plan>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<List> {
        let environment = app.environment();
        Ok(List(app.read(async |tx| plan::list(tx, &environment).await).await?))
    }
}

impl Report for List {
    fn view(&self) -> View {
        View::List {
            headers: vec!["PLAN", "NAME", "LIMITS", "FEATURES", "TENANTS"],
            rows: self
                .0
                .iter()
                .map(|plan| {
                    vec![
                        plan.key.clone(),
                        plan.name.clone(),
                        super::limits(plan),
                        plan.features.join(", "),
                        plan.tenant_count.to_string(),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|plan| plan.key.clone()).collect()
    }
}
