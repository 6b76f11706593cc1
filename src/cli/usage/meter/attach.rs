//! `tenantctl usage meter attach`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::meter::{self, Attached, NewMeter};
use tenancy::{Change, Outcome};

use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Key of what is counted
    metric: String,
    /// The table to count it from
    #[arg(long)]
    table: String,
    /// Sum this column instead of counting rows
    #[arg(long, value_name = "COLUMN")]
    sum: Option<String>,
    /// The column that says whose a row is [default: that of the table's isolation, else tenant_id]
    #[arg(long, value_name = "COLUMN")]
    tenant_column: Option<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Done {
    #[serde(flatten)]
    change: Change<Attached>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    notes: Vec<String>,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Done> {
        let new = NewMeter {
            metric: self.metric,
            table: self.table,
            tenant_column: self.tenant_column,
            sum_column: self.sum,
        };
        let mut session = app.session().await?;
        // The table is changed as the connecting role.
        let mut transaction = session.begin_checked().await?;
        let change = meter::attach(&mut transaction, &new).await?;
        if self.dry_run.dry_run {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        let Attached { meter, unassigned, tenants_over } = &change.value;
        let mut notes = vec![match change.outcome {
            Outcome::Unchanged => {
                format!("{} is counted from {} already (unchanged)", meter.metric, meter.table)
            }
            _ => format!("{} {} from {}", self.dry_run.word("counting", "count"), meter.metric, meter.table),
        }];
        if let Some(unassigned) = unassigned.filter(|unassigned| *unassigned != 0) {
            notes.push(format!("{unassigned} in {} belong to no tenant and are not counted", meter.table));
        }
        if *tenants_over > 0 {
            notes.push(format!(
                "tenants over their limit of {}: {tenants_over}; they keep what they have, and get no more",
                meter.metric
            ));
        }
        Ok(Done { change, dry_run: self.dry_run.dry_run, notes })
    }
}

impl Report for Done {
    fn view(&self) -> View {
        let meter = &self.change.value.meter;
        View::Record(vec![
            ("METRIC", meter.metric.clone()),
            ("TABLE", meter.table.clone()),
            ("COUNTS", super::counts(meter)),
            ("TENANT COLUMN", meter.tenant_column.clone()),
            ("OUTCOME", self.change.outcome.as_str().to_owned()),
        ])
    }

    fn ids(&self) -> Vec<String> {
        vec![super::id(&self.change.value.meter)]
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
