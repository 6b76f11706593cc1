//! `tenantctl db stop`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::Outcome;

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[derive(Serialize)]
pub(crate) struct Stopped {
    outcome: Outcome,
}

impl Args {
    pub(crate) fn run(self, app: &mut App) -> anyhow::Result<Stopped> {
        let stopped = app.persistent()?.stop().map_err(tenancy::Error::from)?;
        Ok(Stopped { outcome: if stopped { Outcome::Updated } else { Outcome::Unchanged } })
    }
}

impl Report for Stopped {
    fn view(&self) -> View {
        View::Text(String::new())
    }

    fn ids(&self) -> Vec<String> {
        Vec::new()
    }

    fn notes(&self) -> Vec<String> {
        vec![match self.outcome {
            Outcome::Unchanged => "the private server does not run (unchanged)".to_owned(),
            _ => "stopped the private server; its data stays".to_owned(),
        }]
    }
}
