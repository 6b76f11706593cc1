//! `tenantctl plan`.

mod list;
mod show;

use tenancy::plan::{Plan, PlanLimit};

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the plans
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show one plan
    Show(show::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::List(args) => Box::new(args.run(app).await?),
            Self::Show(args) => Box::new(args.run(app).await?),
        })
    }
}

/// A limit as people read it; one from the environment is marked.
fn limit(limit: &PlanLimit) -> String {
    let value = limit.limit.map_or_else(|| "unlimited".to_owned(), |amount| limit.unit.format(amount));
    match limit.source {
        tenancy::plan::LimitSource::Plan => value,
        tenancy::plan::LimitSource::Environment => format!("{value} (environment)"),
    }
}

fn limits(plan: &Plan) -> String {
    plan.limits.iter().map(|l| format!("{} {}", l.metric, limit(l))).collect::<Vec<_>>().join(", ")
}
