//! `tenantctl limit`.

mod explain;
mod list;
mod set;
mod unset;

use serde::Serialize;
use tenancy::limit::Override;
use tenancy::{Change, Outcome};

use super::app::{App, DryRun};
use crate::output::{Printable, Report, View};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Give a tenant a limit of its own, whatever its plan says
    Set(set::Args),
    /// Take a limit of its own from a tenant
    Unset(unset::Args),
    /// List the limits that tenants have of their own
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Show every layer of a limit, and which one wins
    Explain(explain::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Set(args) => Box::new(args.run(app).await?),
            Self::Unset(args) => Box::new(args.run(app).await?),
            Self::List(args) => Box::new(args.run(app).await?),
            Self::Explain(args) => Box::new(args.run(app).await?),
        })
    }
}

/// An override after a verb that changes it.
#[derive(Serialize)]
pub(crate) struct Changed {
    #[serde(flatten)]
    change: Change<Override>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    notes: Vec<String>,
}

impl Changed {
    fn new(change: Change<Override>, dry_run: DryRun, done: &str, would: &str) -> Self {
        let value = &change.value;
        let what = format!("limit of {} of tenant {}", value.metric, value.tenant);
        let mut notes = vec![match change.outcome {
            Outcome::Unchanged => format!("{what} is like that already (unchanged)"),
            _ => format!("{} {what}", dry_run.word(done, would)),
        }];
        if change.outcome != Outcome::Removed && value.limit.is_some_and(|limit| value.used > limit) {
            notes.push(format!(
                "{} used already: {}",
                value.unit.format(value.used),
                if value.soft { "what comes on top is marked" } else { "nothing more is admitted" }
            ));
        }
        Self { change, dry_run: dry_run.dry_run, notes }
    }
}

impl Report for Changed {
    fn view(&self) -> View {
        let value = &self.change.value;
        let mut fields = vec![
            ("TENANT", value.tenant.clone()),
            ("METRIC", value.metric.clone()),
            ("LIMIT", super::usage::limit(value.unit, value.limit, value.soft)),
            ("USED", value.unit.format(value.used)),
            ("EXPIRES", expiry(value.expires_at, value.expired)),
        ];
        fields.extend(value.reason.clone().map(|reason| ("REASON", reason)));
        fields.push(("BY", value.actor.clone()));
        fields.push(("SINCE", super::time(value.created_at)));
        View::Record(fields)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.change.value.metric.clone()]
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// When something expires, in words.
fn expiry(at: Option<time::OffsetDateTime>, expired: bool) -> String {
    match at {
        None => "never".to_owned(),
        Some(at) if expired => format!("{} (over)", super::time(at)),
        Some(at) => super::time(at),
    }
}
