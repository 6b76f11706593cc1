//! `tenantctl rls context show`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::context::{self, State};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Show(State);

impl Args {
    pub(super) async fn run(self, app: &mut App) -> anyhow::Result<Show> {
        Ok(Show(app.read(async |tx| context::state(tx).await).await?))
    }
}

impl Report for Show {
    fn view(&self) -> View {
        let time = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
        let row = |key: &context::Key| {
            let until = key.expires_at.map_or_else(|| "signs".into(), |at| format!("until {}", time(at)));
            vec![key.id.clone(), time(key.created_at), until]
        };
        View::List { headers: vec!["KEY", "CREATED", "VALID"], rows: self.0.keys.iter().map(row).collect() }
    }

    fn ids(&self) -> Vec<String> {
        self.0.keys.iter().map(|key| key.id.clone()).collect()
    }

    fn notes(&self) -> Vec<String> {
        vec![match self.0.mode {
            context::Mode::Sealed => "the context is sealed: a tenant has to be signed".into(),
            context::Mode::Plain => {
                "the context is plain: any tenant is taken; `tenantctl rls setup --context sealed` seals it"
                    .into()
            }
        }]
    }
}
