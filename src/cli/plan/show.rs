//! `tenantctl plan show`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::plan::{self, Plan};

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Key of the plan
    plan: String,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Show(Plan);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Show> {
        let environment = app.environment();
        Ok(Show(app.read(async |tx| plan::show(tx, &self.plan, &environment).await).await?))
    }
}

impl Report for Show {
    fn view(&self) -> View {
        let plan = &self.0;
        View::Record(vec![
            ("PLAN", plan.key.clone()),
            ("NAME", plan.name.clone()),
            ("LIMITS", super::limits(plan)),
            ("FEATURES", plan.features.join(", ")),
            ("DEFAULT", if plan.is_default { "yes" } else { "no" }.to_owned()),
            ("TENANTS", plan.tenant_count.to_string()),
        ])
    }

    fn ids(&self) -> Vec<String> {
        vec![self.0.key.clone()]
    }
}
