//! `tenantctl rls checks`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::rls::check::{self, Check, Method};
use tenancy::rls::report::Severity;

use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Line {
    id: &'static str,
    severity: Severity,
    title: &'static str,
    found_by: Method,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct List(Vec<Line>);

impl Args {
    pub(crate) fn run(self) -> List {
        List(check::ALL.iter().map(Line::from).collect())
    }
}

impl From<&Check> for Line {
    fn from(check: &Check) -> Self {
        Self { id: check.id, severity: check.severity, title: check.title(), found_by: check.method() }
    }
}

impl Report for List {
    fn view(&self) -> View {
        View::List {
            headers: vec!["CHECK", "SEVERITY", "TITLE"],
            rows: self
                .0
                .iter()
                .map(|check| vec![check.id.into(), check.severity.as_str().into(), check.title.into()])
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|check| check.id.to_owned()).collect()
    }
}
