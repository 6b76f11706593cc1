//! `tenantctl usage forecast`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::{self, Forecast, Outlook};

use crate::cli::app::App;
use crate::cli::tenant::TenantArg;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// Only of what is counted under this key
    #[arg(long)]
    metric: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Forecasts(Vec<Forecast>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Forecasts> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let environment = app.environment();
        let metric = self.metric.as_deref();
        Ok(Forecasts(app.read(async |tx| usage::forecast(tx, &tenant, metric, &environment).await).await?))
    }
}

/// What is expected, in words.
fn outlook(forecast: &Forecast) -> String {
    match forecast.outlook {
        Outlook::Expected => forecast.date.map(crate::cli::time).unwrap_or_default(),
        Outlook::NotInPeriod => "not in this period".to_owned(),
        Outlook::NotAtThisPace => "not at this pace".to_owned(),
        Outlook::Reached => "reached already".to_owned(),
        Outlook::Unlimited => "unlimited".to_owned(),
        Outlook::Unknown => "unknown".to_owned(),
    }
}

/// Why nothing is known, or how it was found.
fn basis(forecast: &Forecast) -> String {
    forecast.reason.clone().or_else(|| forecast.method.clone()).unwrap_or_default()
}

impl Report for Forecasts {
    fn view(&self) -> View {
        View::List {
            headers: vec!["METRIC", "USED", "LIMIT", "REACHED", "EARLIEST", "LATEST", "BASIS"],
            rows: self
                .0
                .iter()
                .map(|forecast| {
                    vec![
                        forecast.metric.clone(),
                        forecast.unit.format(forecast.used),
                        super::bound(forecast.unit, forecast.limit),
                        outlook(forecast),
                        forecast.earliest.map(crate::cli::time).unwrap_or_default(),
                        forecast.latest.map(crate::cli::time).unwrap_or_default(),
                        basis(forecast),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|forecast| forecast.metric.clone()).collect()
    }
}
