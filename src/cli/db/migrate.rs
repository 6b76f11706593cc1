//! `tenantctl db migrate`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::Outcome;
use tenancy::db::{self, Migrations};

use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Migrated {
    outcome: Outcome,
    #[serde(flatten)]
    migrations: Migrations,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    note: String,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Migrated> {
        let mut session = app.connect().await?;
        let prefix = session.role_prefix.clone();
        let mut transaction = session.begin().await?;
        let migrations = db::migrate(&mut transaction, &prefix).await?;
        if self.dry_run.dry_run {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        let count = migrations.applied.len();
        let first = migrations.applied.first().is_some_and(|first| first.version == 1);
        let outcome = match (count, migrations.catalogue_applied) {
            (0, false) => Outcome::Unchanged,
            _ if first => Outcome::Created,
            _ => Outcome::Updated,
        };
        let mut note = match outcome {
            Outcome::Unchanged => {
                format!("the control plane is at version {} already (unchanged)", migrations.version)
            }
            _ => format!(
                "{} {count} migrations; the control plane is at version {}",
                self.dry_run.word("applied", "apply"),
                migrations.version
            ),
        };
        if migrations.catalogue_applied {
            note.push_str(", with the default plans");
        }
        Ok(Migrated { outcome, migrations, dry_run: self.dry_run.dry_run, note })
    }
}

impl Report for Migrated {
    fn view(&self) -> View {
        View::List {
            headers: vec!["VERSION", "MIGRATION", "MS"],
            rows: self
                .migrations
                .applied
                .iter()
                .map(|m| {
                    vec![m.version.to_string(), m.description.clone(), m.duration.as_millis().to_string()]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.migrations.applied.iter().map(|m| m.version.to_string()).collect()
    }

    fn notes(&self) -> Vec<String> {
        vec![self.note.clone()]
    }
}
