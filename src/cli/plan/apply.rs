//! `tenantctl plan apply`.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::plan::{self, Applied, Catalogue};
use tenancy::{Error, Outcome};

use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// YAML with metrics, features and plans; - for standard input. What it leaves out stays as it is
    #[arg(short, long)]
    file: PathBuf,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct All {
    applied: Vec<Applied>,
    #[serde(skip)]
    note: String,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<All> {
        let name = self.file.display().to_string();
        let yaml = if name == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            text
        } else {
            std::fs::read_to_string(&self.file).map_err(|error| Error::Configuration {
                what: format!("cannot read {name}: {error}"),
                hint: None,
            })?
        };
        let catalogue = Catalogue::parse(&yaml, if name == "-" { "standard input" } else { &name })?;
        let applied = app.write(self.dry_run, async |tx| plan::apply(tx, &catalogue).await).await?;
        let count = |outcome| applied.iter().filter(|one| one.outcome == outcome).count();
        let note = format!(
            "{} {}, {} {}, {} unchanged",
            self.dry_run.word("created", "create"),
            count(Outcome::Created),
            self.dry_run.word("updated", "update"),
            count(Outcome::Updated),
            count(Outcome::Unchanged)
        );
        Ok(All { applied, note })
    }
}

impl Report for All {
    fn view(&self) -> View {
        View::List {
            headers: vec!["KIND", "KEY", "OUTCOME", "CHANGES"],
            rows: self
                .applied
                .iter()
                .map(|one| {
                    vec![
                        one.kind.to_owned(),
                        one.key.clone(),
                        one.outcome.as_str().to_owned(),
                        one.changes.join("; "),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.applied.iter().map(|one| one.key.clone()).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![self.note.clone()];
        for one in &self.applied {
            if let Some(tenants) = one.tenants_over.filter(|tenants| *tenants > 0) {
                let (who, use_) = if tenants == 1 { ("tenant", "uses") } else { ("tenants", "use") };
                notes.push(format!(
                    "{tenants} {who} of plan {} {use_} more than a limit allows: nothing more of it is admitted",
                    one.key
                ));
            }
        }
        notes
    }
}
