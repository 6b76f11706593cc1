//! `tenantctl plan`.

mod apply;
mod list;
mod show;

use tenancy::plan::{LimitSource, Plan, PlanLimit};

use super::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the plans
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show one plan
    Show(show::Args),
    /// Add and change metrics, features, plans and their limits from a file
    Apply(apply::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::List(args) => Box::new(args.run(app).await?),
            Self::Show(args) => Box::new(args.run(app).await?),
            Self::Apply(args) => Box::new(args.run(app).await?),
        })
    }
}

/// A limit as people read it; one that is soft or from the environment is marked.
fn limit(limit: &PlanLimit) -> String {
    let value = super::usage::limit(limit.unit, limit.limit, limit.soft);
    if limit.source == LimitSource::Environment { format!("{value} (environment)") } else { value }
}

fn limits(plan: &Plan) -> String {
    plan.limits.iter().map(|l| format!("{} {}", l.metric, limit(l))).collect::<Vec<_>>().join(", ")
}
