//! `tenantctl usage alerts`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::{self, Alert, AlertFilter};
use time::OffsetDateTime;

use crate::cli::app::App;
use crate::cli::completions::tenant_slugs;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only of this tenant
    #[arg(value_name = "TENANT", add = clap_complete::ArgValueCompleter::new(tenant_slugs))]
    tenant: Option<String>,
    /// Only of what is counted under this key
    #[arg(long)]
    metric: Option<String>,
    /// Only from then on, as 2026-11-30T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = super::parse_time)]
    since: Option<OffsetDateTime>,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Alerts(Vec<Alert>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Alerts> {
        let tenant = self.tenant.map(|tenant| app.tenant(&tenant)).transpose()?;
        let filter = AlertFilter { tenant, metric: self.metric, since: self.since };
        Ok(Alerts(app.read(async |tx| usage::alerts(tx, &filter).await).await?))
    }
}

impl Report for Alerts {
    fn view(&self) -> View {
        View::List {
            headers: vec!["TENANT", "METRIC", "THRESHOLD", "USED", "LIMIT", "WHEN"],
            rows: self
                .0
                .iter()
                .map(|alert| {
                    vec![
                        alert.tenant.clone(),
                        alert.metric.clone(),
                        format!("{} %", alert.threshold),
                        alert.unit.format(alert.used),
                        alert.unit.format(alert.limit),
                        crate::cli::time(alert.crossed_at),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|alert| format!("{} {} {}", alert.tenant, alert.metric, alert.threshold)).collect()
    }
}
