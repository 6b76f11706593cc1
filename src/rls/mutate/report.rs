//! What a run of weakenings came to.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Error, Result};

/// Which tables are weakened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One of each shape: tables with the same policies, flags and grants stand for each other.
    Shapes,
    /// Every one.
    All,
}

impl std::str::FromStr for Extent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "shapes" => Ok(Self::Shapes),
            "all" => Ok(Self::All),
            _ => Err(Error::invalid("mutate", text, "it is shapes or all")),
        }
    }
}

/// What became of a weakening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It lets something through, and nothing was found.
    Survived,
    /// It could not be tried.
    Untried,
    /// It lets something through, and that was found.
    Killed,
    /// Nothing gets through: something else still holds.
    Equivalent,
}

impl Verdict {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Survived => "survived",
            Self::Untried => "untried",
            Self::Killed => "killed",
            Self::Equivalent => "equivalent",
        }
    }
}

/// One weakening, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mutant {
    /// What was done, in a word.
    pub mutation: String,
    /// What it was done to.
    pub object: String,
    /// The application role that attacked.
    pub role: String,
    /// The statements of the weakening.
    pub statements: Vec<String>,
    /// What became of it.
    pub verdict: Verdict,
    /// What got through, and with which statement; none where nothing did.
    pub let_through: BTreeMap<String, String>,
    /// The checks that noticed.
    pub found_by: Vec<String>,
    /// Why it could not be tried; empty where it was.
    pub reason: String,
}

/// A table that was weakened, and those that it stood for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// The table, quoted as SQL would name it.
    pub object: String,
    /// Others of the same shape.
    pub stands_for: Vec<String>,
}

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Weakenings in all.
    pub mutants: usize,
    /// Those that were found.
    pub killed: usize,
    /// Those that let something through and were not found.
    pub survived: usize,
    /// Those that let nothing through.
    pub equivalent: usize,
    /// Those that could not be tried.
    pub untried: usize,
    /// Whether none survived and, with `strict`, each could be tried.
    pub passed: bool,
}

/// The result, as `rls verify --mutate -o json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mutations {
    /// Version of this structure; fields are only ever appended.
    pub schema_version: u32,
    /// The server's version.
    pub server_version: String,
    /// How long it took.
    pub duration_ms: u64,
    /// The counts.
    pub summary: Counts,
    /// The tables that were weakened.
    pub tables: Vec<Shape>,
    /// The weakenings, survivors first.
    pub mutants: Vec<Mutant>,
}

impl Mutations {
    /// Puts the survivors first, counts and decides.
    pub(super) fn settle(&mut self, strict: bool) {
        self.mutants.sort_by_key(|mutant| mutant.verdict);
        let count = |verdict| self.mutants.iter().filter(|mutant| mutant.verdict == verdict).count();
        self.summary = Counts {
            mutants: self.mutants.len(),
            killed: count(Verdict::Killed),
            survived: count(Verdict::Survived),
            equivalent: count(Verdict::Equivalent),
            untried: count(Verdict::Untried),
            passed: false,
        };
        self.summary.passed = self.summary.survived == 0 && !(strict && self.summary.untried > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict], strict: bool) -> Mutations {
        let mutant = |verdict: &Verdict| Mutant {
            mutation: "or-true".into(),
            object: "policy p on t".into(),
            role: "app".into(),
            statements: Vec::new(),
            verdict: *verdict,
            let_through: BTreeMap::new(),
            found_by: Vec::new(),
            reason: String::new(),
        };
        let mut report = Mutations {
            schema_version: 1,
            server_version: "15.18".into(),
            duration_ms: 1,
            summary: Counts::default(),
            tables: Vec::new(),
            mutants: verdicts.iter().map(mutant).collect(),
        };
        report.settle(strict);
        report
    }

    #[test]
    fn survivors_come_first_and_fail() {
        let report = report(&[Verdict::Equivalent, Verdict::Killed, Verdict::Survived], false);
        assert_eq!(report.mutants.first().map(|mutant| mutant.verdict), Some(Verdict::Survived));
        assert_eq!((report.summary.mutants, report.summary.survived, report.summary.passed), (3, 1, false));
    }

    #[test]
    fn what_was_not_tried_fails_where_that_is_strict() {
        let verdicts = [Verdict::Killed, Verdict::Untried];
        assert!(report(&verdicts, false).summary.passed && !report(&verdicts, true).summary.passed);
    }
}
