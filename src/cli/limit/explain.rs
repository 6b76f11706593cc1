//! `tenantctl limit explain`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::limit::{self, Explanation, Layer};
use tenancy::plan::LimitSource;

use crate::cli::app::App;
use crate::cli::tenant::TenantArg;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// Key of what is counted
    metric: String,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Explained(Explanation);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Explained> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let environment = app.environment();
        let explanation =
            app.read(async |tx| limit::explain(tx, &tenant, &self.metric, &environment).await).await?;
        Ok(Explained(explanation))
    }
}

impl Explained {
    fn value(&self, layer: &Layer) -> String {
        if layer.set {
            crate::cli::usage::limit(self.0.unit, layer.limit, layer.soft)
        } else {
            "not set".to_owned()
        }
    }
}

impl Report for Explained {
    fn view(&self) -> View {
        View::List {
            headers: vec!["LAYER", "LIMIT", "WINS", "EXPIRES", "REASON", "BY", "SINCE"],
            rows: self
                .0
                .layers
                .iter()
                .map(|layer| {
                    let expires = if layer.source == LimitSource::Override && layer.set {
                        super::expiry(layer.expires_at, layer.expired)
                    } else {
                        String::new()
                    };
                    vec![
                        match &layer.name {
                            Some(name) => format!("{} {name}", layer.source.as_str()),
                            None => layer.source.as_str().to_owned(),
                        },
                        self.value(layer),
                        if layer.wins { "yes" } else { "" }.to_owned(),
                        expires,
                        layer.reason.clone().unwrap_or_default(),
                        layer.actor.clone().unwrap_or_default(),
                        layer.created_at.map(crate::cli::time).unwrap_or_default(),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.0.source.as_str().to_owned()]
    }

    fn notes(&self) -> Vec<String> {
        let found = &self.0;
        vec![format!(
            "tenant {} has used {} of {}: {}",
            found.tenant,
            found.unit.format(found.used),
            found.metric,
            match found.limit {
                Some(limit) => format!(
                    "its limit is {}, from {}",
                    crate::cli::usage::limit(found.unit, Some(limit), found.soft),
                    found.source.as_str()
                ),
                None => format!("it has no limit, from {}", found.source.as_str()),
            }
        )]
    }
}
