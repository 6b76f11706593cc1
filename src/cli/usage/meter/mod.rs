//! `tenantctl usage meter`.

mod attach;
mod detach;
mod list;

use tenancy::usage::meter::Meter;

use crate::cli::app::App;
use crate::output::Printable;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Count a metric from a table of the platform, in the transactions that write to it
    Attach(attach::Args),
    /// Stop counting a metric from a table; what is counted stays
    Detach(detach::Args),
    /// List the tables that metrics are counted from
    #[command(visible_alias = "ls")]
    List(list::Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Attach(args) => Box::new(args.run(app).await?),
            Self::Detach(args) => Box::new(args.run(app).await?),
            Self::List(args) => Box::new(args.run(app).await?),
        })
    }
}

/// What a meter makes of a row.
fn counts(meter: &Meter) -> String {
    meter.sum_column.as_ref().map_or_else(|| "rows".to_owned(), |column| format!("sum of {column}"))
}

fn id(meter: &Meter) -> String {
    format!("{} {}", meter.metric, meter.table)
}
