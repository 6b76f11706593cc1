//! `tenantctl rls explain`.

use std::fmt::Write as _;

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::rls::check::{self, Method};
use tenancy::rls::report::Severity;

use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Name of the check, as `rls checks` lists it
    check: String,
}

#[derive(Serialize)]
pub(crate) struct Explanation {
    id: &'static str,
    severity: Severity,
    title: &'static str,
    why: &'static str,
    found_by: Method,
    fix: &'static str,
    examples: Vec<&'static str>,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<Explanation> {
        let check = check::named(&self.check)?;
        Ok(Explanation {
            id: check.id,
            severity: check.severity,
            title: check.title(),
            why: check.why(),
            found_by: check.method(),
            fix: check.fix(),
            examples: check.examples(),
        })
    }
}

impl Report for Explanation {
    fn view(&self) -> View {
        let mut text = format!("{} ({}): {}\n", self.id, self.severity.as_str(), self.title);
        let parts = [
            ("What an intruder does with it", self.why),
            ("How it is found", self.found_by.describe()),
            ("How to mend it", self.fix),
        ];
        for (heading, words) in parts {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{heading}\n  {words}\n");
        }
        if !self.examples.is_empty() {
            text.push_str("\nExample\n");
        }
        for line in &self.examples {
            let _ = writeln!(text, "  {line}");
        }
        View::Text(text)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.id.to_owned()]
    }
}
