//! `tenantctl config path`.

use clap::Args as ClapArgs;
use serde::Serialize;

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Paths(Vec<String>);

impl Args {
    pub(crate) fn run(self, app: &App) -> Paths {
        Paths(app.config.files.iter().map(|path| path.display().to_string()).collect())
    }
}

impl Report for Paths {
    fn view(&self) -> View {
        View::Text(self.0.iter().map(|path| format!("{path}\n")).collect())
    }

    fn ids(&self) -> Vec<String> {
        self.0.clone()
    }

    fn notes(&self) -> Vec<String> {
        if self.0.is_empty() { vec!["no configuration file is in use".to_owned()] } else { Vec::new() }
    }
}
