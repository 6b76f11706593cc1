//! `tenantctl rls teardown`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::db;
use tenancy::rls::teardown::{self, Removal, Target};

use super::patience::Patience;
use crate::cli::app::{App, Confirmation, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only this table, with its partitions and children (may be given more than once) [default: all]
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Print the SQL instead of running it
    #[arg(long, conflicts_with = "dry_run")]
    print: bool,
    #[command(flatten)]
    confirmation: Confirmation,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Done {
    tables: Vec<Removal>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    print: bool,
    #[serde(skip)]
    word: String,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Done> {
        let mut session = app.session().await?;
        let mut transaction = session.begin_checked().await?;
        let targets = teardown::targets(&mut transaction, &self.table).await?;
        // What concerns no single table goes with the last of them.
        let everything = self.table.is_empty();
        let database = match everything {
            true => teardown::plan_database(&mut transaction).await?,
            false => None,
        };
        let tables = if self.print {
            let mut removals = teardown::plan(&mut transaction, &targets).await?;
            removals.extend(database);
            transaction.rollback().await?;
            removals
        } else if self.dry_run.dry_run {
            let mut removals = Vec::with_capacity(targets.len());
            for target in &targets {
                removals.push(teardown::teardown(&mut transaction, target).await?);
            }
            if everything {
                removals.extend(teardown::teardown_database(&mut transaction).await?);
            }
            transaction.rollback().await?;
            removals
        } else {
            let facts = db::facts(&mut transaction).await?;
            // Nothing was changed but that dropped tables were forgotten.
            transaction.commit().await?;
            if !targets.is_empty() || database.is_some() {
                let what =
                    format!("take {} out of tenant isolation in database {}", told(&targets), facts.database);
                app.confirm(&facts.database, &what, &self.confirmation).await?;
            }
            let bar = app.notes.progress("rls teardown");
            let mut removals = Vec::with_capacity(targets.len());
            for (done, target) in targets.iter().enumerate() {
                bar.set(done as u64, targets.len() as u64);
                let mut patience = Patience::new();
                // A transaction for each table: none is locked longer than its own change takes.
                removals.push(loop {
                    let mut transaction = session.begin_checked().await?;
                    match teardown::teardown(&mut transaction, target).await {
                        Ok(removal) => {
                            transaction.commit().await?;
                            break removal;
                        }
                        Err(error) => {
                            transaction.rollback().await?;
                            patience.wait(error).await?;
                        }
                    }
                });
            }
            if database.is_some() {
                let mut transaction = session.begin_checked().await?;
                removals.extend(teardown::teardown_database(&mut transaction).await?);
                transaction.commit().await?;
            }
            removals
        };
        Ok(Done {
            tables,
            dry_run: self.dry_run.dry_run,
            print: self.print,
            word: self.dry_run.word("took", "take"),
        })
    }
}

fn told(targets: &[Target]) -> String {
    match targets {
        [] => "new tables".into(),
        [one] => one.name.clone(),
        many => format!("{} tables", many.len()),
    }
}

impl Report for Done {
    fn view(&self) -> View {
        if self.print {
            return View::Text(teardown::script(&self.tables));
        }
        View::List {
            headers: vec!["TABLE", "WHAT WAS UNDONE"],
            rows: self
                .tables
                .iter()
                .map(|table| vec![table.table.clone(), table.actions.join(", ")])
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.table.clone()).collect()
    }

    fn notes(&self) -> Vec<String> {
        if self.print {
            return Vec::new();
        }
        let mut notes = Vec::new();
        for table in &self.tables {
            notes.extend(table.notes.iter().map(|note| format!("note: {}: {note}", table.table)));
        }
        notes.push(match self.tables.len() {
            0 => "nothing is under isolation (unchanged)".into(),
            1 => format!("{} 1 table out of isolation", self.word),
            count => format!("{} {count} tables out of isolation", self.word),
        });
        notes
    }
}
