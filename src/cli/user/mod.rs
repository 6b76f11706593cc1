//! `tenantctl user`.

mod add;
mod list;
mod remove;
mod update;

use serde::Serialize;
use serde_json::{Map, Value};
use tenancy::user::{Member, parse_permission};
use tenancy::{Change, Error, Outcome};

use super::app::{App, DryRun};
use crate::output::{Printable, Report, View};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Add a user to a tenant
    Add(add::Args),
    /// List the users of a tenant
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Change a user's role or permissions
    Update(update::Args),
    /// Remove a user from a tenant
    #[command(visible_alias = "rm")]
    Remove(remove::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Add(args) => Box::new(args.run(app).await?),
            Self::List(args) => Box::new(args.run(app).await?),
            Self::Update(args) => Box::new(args.run(app).await?),
            Self::Remove(args) => Box::new(args.run(app).await?),
        })
    }
}

/// The option that gives permissions.
#[derive(Debug, clap::Args)]
pub(crate) struct Permissions {
    /// Permission, as can_manage_events=true (may be given more than once)
    #[arg(long = "permission", value_name = "NAME=BOOL", value_parser = permission)]
    permissions: Vec<(String, bool)>,
}

fn permission(text: &str) -> Result<(String, bool), Error> {
    parse_permission(text)
}

impl Permissions {
    fn into_map(self) -> Map<String, Value> {
        self.permissions.into_iter().map(|(name, value)| (name, Value::Bool(value))).collect()
    }
}

/// A membership after a verb that changes it.
#[derive(Serialize)]
pub(crate) struct Changed {
    #[serde(flatten)]
    change: Change<Member>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    note: String,
}

impl Changed {
    fn new(change: Change<Member>, dry_run: DryRun, done: &str, would: &str) -> Self {
        let member = &change.value;
        let (email, role, tenant) = (&member.email, member.role.as_str(), &member.tenant);
        let note = match change.outcome {
            Outcome::Unchanged => format!("{email} is {role} of {tenant} already (unchanged)"),
            Outcome::Removed => format!("{} {email} from {tenant}", dry_run.word(done, would)),
            _ => format!("{} {email} as {role} of {tenant}", dry_run.word(done, would)),
        };
        Self { change, dry_run: dry_run.dry_run, note }
    }
}

impl Report for Changed {
    fn view(&self) -> View {
        let member = &self.change.value;
        View::Record(vec![
            ("TENANT", member.tenant.clone()),
            ("EMAIL", member.email.clone()),
            ("USER", member.user_id.0.to_string()),
            ("ROLE", member.role.as_str().to_owned()),
            ("PERMISSIONS", permissions(member)),
            ("SINCE", super::time(member.created_at)),
        ])
    }

    fn ids(&self) -> Vec<String> {
        vec![self.change.value.email.clone()]
    }

    fn notes(&self) -> Vec<String> {
        vec![self.note.clone()]
    }
}

fn permissions(member: &Member) -> String {
    let pairs = member.permissions.as_object().into_iter().flatten();
    pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
