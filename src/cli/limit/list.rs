//! `tenantctl limit list`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::limit::{self, Override};

use crate::cli::app::App;
use crate::cli::completions::tenant_slugs;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only of this tenant
    #[arg(value_name = "TENANT", add = clap_complete::ArgValueCompleter::new(tenant_slugs))]
    tenant: Option<String>,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct List(Vec<Override>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<List> {
        let tenant = self.tenant.map(|tenant| app.tenant(&tenant)).transpose()?;
        Ok(List(app.read(async |tx| limit::list(tx, tenant.as_ref()).await).await?))
    }
}

impl Report for List {
    fn view(&self) -> View {
        View::List {
            headers: vec!["TENANT", "METRIC", "LIMIT", "USED", "EXPIRES", "REASON", "BY"],
            rows: self
                .0
                .iter()
                .map(|own| {
                    vec![
                        own.tenant.clone(),
                        own.metric.clone(),
                        crate::cli::usage::limit(own.unit, own.limit, own.soft),
                        own.unit.format(own.used),
                        super::expiry(own.expires_at, own.expired),
                        own.reason.clone().unwrap_or_default(),
                        own.actor.clone(),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|own| format!("{} {}", own.tenant, own.metric)).collect()
    }
}
