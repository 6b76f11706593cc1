//! `tenantctl user list`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::user::{self, Member, Role};

use crate::cli::app::App;
use crate::cli::tenant::TenantArg;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// Only users with this role
    #[arg(long)]
    role: Option<Role>,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct List(Vec<Member>);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<List> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let role = self.role;
        Ok(List(app.read(async |tx| user::list(tx, &tenant, role).await).await?))
    }
}

impl Report for List {
    fn view(&self) -> View {
        View::List {
            headers: vec!["EMAIL", "ROLE", "PERMISSIONS", "SINCE"],
            rows: self
                .0
                .iter()
                .map(|member| {
                    vec![
                        member.email.clone(),
                        member.role.as_str().to_owned(),
                        super::permissions(member),
                        crate::cli::time(member.created_at),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|member| member.email.clone()).collect()
    }
}
