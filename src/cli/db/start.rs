//! `tenantctl db start`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::Outcome;

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[derive(Serialize)]
pub(crate) struct Started {
    outcome: Outcome,
    url: String,
    pid: u32,
    server_version: u16,
}

impl Args {
    pub(crate) fn run(self, app: &mut App) -> anyhow::Result<Started> {
        let server = app.persistent()?;
        let started = server.start(&app.config.server_request()).map_err(tenancy::Error::from)?;
        Ok(Started {
            outcome: if started.fresh { Outcome::Updated } else { Outcome::Unchanged },
            url: started.endpoint.url(),
            pid: started.pid,
            server_version: started.major,
        })
    }
}

impl Report for Started {
    fn view(&self) -> View {
        View::Record(vec![
            ("URL", self.url.clone()),
            ("PID", self.pid.to_string()),
            ("VERSION", self.server_version.to_string()),
        ])
    }

    fn ids(&self) -> Vec<String> {
        vec![self.url.clone()]
    }

    fn notes(&self) -> Vec<String> {
        vec![match self.outcome {
            Outcome::Unchanged => "the private server runs already (unchanged)".to_owned(),
            _ => "started the private server; `tenantctl db stop` stops it".to_owned(),
        }]
    }
}
