//! `tenantctl tenant list`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::tenant::{self, Filter, Status, Tenant};

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only tenants in this state: active, suspended or deleted (may be given more than once) [default: not deleted]
    #[arg(long, value_name = "STATUS")]
    status: Vec<Status>,
    /// Only tenants on this plan
    #[arg(long)]
    plan: Option<String>,
    /// Only tenants whose slug, name or contact contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct List(Vec<Tenant>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<List> {
        let filter = Filter { status: self.status, plan: self.plan, text: self.filter };
        Ok(List(app.read(async |tx| tenant::list(tx, &filter).await).await?))
    }
}

impl Report for List {
    fn view(&self) -> View {
        View::List {
            headers: vec!["SLUG", "NAME", "STATUS", "PLAN", "USERS", "CREATED"],
            rows: self
                .0
                .iter()
                .map(|tenant| {
                    vec![
                        tenant.slug.to_string(),
                        tenant.name.clone(),
                        tenant.status.as_str().to_owned(),
                        tenant.plan.clone(),
                        tenant.user_count.to_string(),
                        crate::cli::time(tenant.created_at),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|tenant| tenant.slug.to_string()).collect()
    }
}
