//! `tenantctl tenant show`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::tenant::{self, Tenant};

use super::TenantArg;
use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Show(Tenant);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Show> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        Ok(Show(app.read(async |tx| tenant::find(tx, &tenant).await).await?))
    }
}

impl Report for Show {
    fn view(&self) -> View {
        super::record(&self.0)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.0.slug.to_string()]
    }
}
