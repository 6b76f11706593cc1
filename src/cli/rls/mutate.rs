//! What `tenantctl rls verify --mutate` prints.

use serde::Serialize;
use tenancy::rls::mutate::{Extent, Mutations, Verdict};

use crate::output::{Report, View};

/// The extents, as clap checks, lists and completes them.
pub(super) fn extents() -> impl clap::builder::TypedValueParser<Value = Extent> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(["shapes", "all"]).try_map(|name| name.parse::<Extent>())
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Mutated(pub(super) Mutations);

impl Report for Mutated {
    fn view(&self) -> View {
        let rows = self.0.mutants.iter().map(|mutant| {
            let said = match mutant.verdict {
                Verdict::Killed => mutant.found_by.join(", "),
                Verdict::Survived => mutant.let_through.keys().take(1).cloned().collect(),
                Verdict::Untried => mutant.reason.clone(),
                Verdict::Equivalent => "nothing gets through".into(),
            };
            vec![mutant.mutation.clone(), mutant.object.clone(), mutant.verdict.as_str().into(), said]
        });
        View::List { headers: vec!["WEAKENING", "OBJECT", "VERDICT", "FOUND BY"], rows: rows.collect() }
    }

    /// Those that nobody would notice.
    fn ids(&self) -> Vec<String> {
        let survivors = self.0.mutants.iter().filter(|mutant| mutant.verdict == Verdict::Survived);
        survivors.map(|mutant| format!("{} {}", mutant.mutation, mutant.object)).collect()
    }

    fn notes(&self) -> Vec<String> {
        let counts = &self.0.summary;
        let mut notes: Vec<String> = self
            .0
            .tables
            .iter()
            .filter(|table| !table.stands_for.is_empty())
            .map(|table| {
                format!(
                    "note: {} stands for {} more of the same shape; --mutate=all weakens each",
                    table.object,
                    table.stands_for.len()
                )
            })
            .collect();
        notes.push(format!(
            "{}: {} weakenings, {} found, {} not found, {} let nothing through, {} not tried",
            if counts.passed { "passed" } else { "FAILED" },
            counts.mutants,
            counts.killed,
            counts.survived,
            counts.equivalent,
            counts.untried
        ));
        notes
    }

    fn check_failed(&self) -> bool {
        !self.0.summary.passed
    }
}
