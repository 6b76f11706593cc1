//! What a verification found: findings, verdicts, and what could not be proven.

mod cases;
mod form;
mod github;
mod junit;
mod pgtap;
mod sarif;
mod tap;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::rls::ignore::{Because, Stale, StaleIgnore, Suppressed};
pub use form::Form;
pub use pgtap::Tests;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing gets through.
    Note,
    /// Something is amiss that is not a leak by itself.
    Warning,
    /// One tenant reaches another's rows, or could with one statement.
    Error,
}

impl Severity {
    /// Its name in reports and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl std::str::FromStr for Severity {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "note" => Ok(Self::Note),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            _ => Err(crate::Error::invalid("severity", text, "it is error, warning or note")),
        }
    }
}

/// Where a finding comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The system catalogue raised it.
    Catalog,
    /// A statement got through.
    Probe,
}

/// One thing on the way to a finding's object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// `login`, `role`, `view`, `function`, `table`, …
    pub kind: String,
    /// Its name, quoted as SQL would name it.
    pub name: String,
}

/// One defect at one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Id of the check.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// The object, quoted as SQL would name it.
    pub object: String,
    /// `table`, `view`, `function`, `role`, …
    pub object_kind: String,
    /// What is wrong.
    pub message: String,
    /// What shows it; for a probe the statement that got through, as which role and in which context.
    pub evidence: String,
    /// SQL that mends it, where there is some.
    pub fix: String,
    /// The same for the same defect in every run and on every copy of the database.
    pub fingerprint: String,
    /// Catalogue or probe.
    pub source: Source,
    /// The way that an intruder takes where it has several steps: from the login or the application role to what is
    /// reached. In JSON an array of objects with `kind` and `name`; absent where the finding is about one object only.
    /// It is no part of the fingerprint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Step>,
}

impl Finding {
    /// The path in a line: `login web → role app → view public.v → table public.t`. Empty where there is none.
    pub fn path_line(&self) -> String {
        let steps: Vec<String> =
            self.path.iter().map(|step| format!("{} {}", step.kind, step.name)).collect();
        steps.join(" → ")
    }
}

/// A table, view or role for which nothing was proven.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NotProven {
    /// The object, quoted as SQL would name it.
    pub object: String,
    /// Why, in the database's own words where it refused.
    pub reason: String,
}

/// The counts of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Tenant tables in scope.
    pub tables: usize,
    /// Checks that ran over the catalogue.
    pub checks: usize,
    /// Statements that tried to cross.
    pub probes: usize,
    /// Findings of severity error.
    pub errors: usize,
    /// Findings of severity warning.
    pub warnings: usize,
    /// Findings of severity note.
    pub notes: usize,
    /// Findings that were left out on purpose.
    pub suppressed: usize,
    /// Whether the verification passed by the options it ran with.
    pub passed: bool,
}

/// What became of the statements that tried to cross.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Attempts {
    /// How many were tried.
    pub tried: usize,
    /// How many failed: refused, or without any effect on another tenant's rows.
    pub failed: usize,
    /// How many got through.
    pub succeeded: usize,
    /// How many ended in an error that says nothing about isolation.
    pub inconclusive: usize,
}

/// What the probes say about one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A statement got through.
    Leak,
    /// Every statement failed, and the controls show that it would have been seen.
    Proven,
    /// It could not be tried, or not all of it.
    NotProven,
}

/// The verdict on one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableVerdict {
    /// The table, quoted as SQL would name it.
    pub object: String,
    /// What the probes say.
    pub verdict: Verdict,
    /// How many statements tried.
    pub tried: usize,
}

/// The result of a verification, as `rls verify -o json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of this structure; fields are only ever appended.
    pub schema_version: u32,
    /// The server's version.
    pub server_version: String,
    /// `postgresql` or `citus`.
    pub engine: String,
    /// How long it took.
    pub duration_ms: u64,
    /// The counts.
    pub summary: Summary,
    /// What was found, worst first.
    pub findings: Vec<Finding>,
    /// What could not be proven, and why.
    pub not_proven: Vec<NotProven>,
    /// What became of the probes' statements.
    pub attempts: Attempts,
    /// The verdict on each tenant table; empty without probes.
    pub tables: Vec<TableVerdict>,
    /// Findings that do not count: ignored, or in the baseline.
    pub suppressed: Vec<Suppressed>,
    /// Entries that ignore nothing any more.
    pub stale_ignores: Vec<StaleIgnore>,
    /// The least severity that counted as failed.
    pub fail_on: Severity,
    /// Whether what is not proven counted as failed.
    pub strict: bool,
    /// Plain SQL that shows a leak in psql, by check and object.
    #[serde(skip)]
    pub scripts: BTreeMap<(String, String), String>,
    /// The attacks as tests, where they were asked for.
    #[serde(skip)]
    pub tests: Tests,
}

impl Report {
    /// Whether the finding fails the run.
    pub fn fails(&self, finding: &Finding) -> bool {
        finding.severity >= self.fail_on
    }

    /// Whether no finding reaches `fail_on` and, with `strict`, nothing was left unproven.
    pub fn passed(&self, fail_on: Severity, strict: bool) -> bool {
        let proven = !strict || self.not_proven.is_empty();
        proven && self.findings.iter().all(|finding| finding.severity < fail_on)
    }

    /// Puts the findings in order, counts them and decides.
    pub(crate) fn settle(&mut self, fail_on: Severity, strict: bool) {
        self.findings.sort_by(|a, b| {
            (b.severity, &a.object, &a.check, &a.fingerprint).cmp(&(
                a.severity,
                &b.object,
                &b.check,
                &b.fingerprint,
            ))
        });
        self.not_proven.sort();
        self.not_proven.dedup();
        self.suppressed.sort_by(|a, b| {
            let key = |one: &Suppressed| (one.finding.object.clone(), one.finding.check.clone());
            key(a).cmp(&key(b))
        });
        (self.fail_on, self.strict) = (fail_on, strict);
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        self.summary.errors = count(Severity::Error);
        self.summary.warnings = count(Severity::Warning);
        self.summary.notes = count(Severity::Note);
        self.summary.suppressed = self.suppressed.len();
        self.summary.passed = self.passed(fail_on, strict);
    }
}

/// A short name for a defect that stays the same from run to run: FNV-1a over what identifies it, never over what
/// changes with time or place (oids, times, evidence).
pub(crate) fn fingerprint(check: &str, object: &str, detail: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in check.bytes().chain([0]).chain(object.bytes()).chain([0]).chain(detail.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A finding as a check makes it.
    pub(crate) fn finding(severity: Severity, check: &str, object: &str) -> Finding {
        Finding {
            check: check.into(),
            severity,
            object: object.into(),
            object_kind: "table".into(),
            message: "something is wrong".into(),
            evidence: "it shows".into(),
            fix: "MEND IT;".into(),
            fingerprint: fingerprint(check, object, ""),
            source: Source::Catalog,
            path: Vec::new(),
        }
    }

    /// The same with a path.
    pub(crate) fn reached(severity: Severity, check: &str, object: &str) -> Finding {
        let step = |kind: &str, name: &str| Step { kind: kind.into(), name: name.into() };
        let path = vec![step("login", "web"), step("role", "\"a -> b\""), step("view", object)];
        Finding { path, object_kind: "view".into(), ..finding(severity, check, object) }
    }

    /// A report of a run that found these.
    pub(crate) fn report(findings: Vec<Finding>) -> Report {
        let mut report = Report {
            schema_version: 1,
            server_version: "15.18".into(),
            engine: "postgresql".into(),
            duration_ms: 412,
            summary: Summary { tables: 2, checks: 21, probes: 40, ..Summary::default() },
            findings,
            not_proven: Vec::new(),
            attempts: Attempts { tried: 40, failed: 39, succeeded: 1, inconclusive: 0 },
            tables: Vec::new(),
            suppressed: Vec::new(),
            stale_ignores: Vec::new(),
            fail_on: Severity::Warning,
            strict: false,
            scripts: BTreeMap::new(),
            tests: Tests::default(),
        };
        report.settle(Severity::Warning, false);
        report
    }

    /// A report with one of everything: findings of each severity, and tables of each verdict.
    pub(crate) fn mixed() -> Report {
        let mut report = report(vec![
            finding(Severity::Note, "no-policy", "public.tickets"),
            finding(Severity::Error, "permissive-leak", "public.\"odd, <&> %: name\""),
            finding(Severity::Warning, "tenant-nullable", "public.events"),
        ]);
        let verdict = |object: &str, verdict| TableVerdict { object: object.into(), verdict, tried: 12 };
        report.tables = vec![
            verdict("public.tickets", Verdict::Proven),
            verdict("public.\"odd, <&> %: name\"", Verdict::Leak),
            verdict("public.events", Verdict::NotProven),
        ];
        report.not_proven = vec![NotProven {
            object: "public.events".into(),
            reason: "no row could be made:\nERROR # 1".into(),
        }];
        report.suppressed = vec![Suppressed {
            finding: finding(Severity::Warning, "unindexed-tenant-column", "public.tiny"),
            because: Because::Ignore { reason: "12 rows".into(), until: time::macros::date!(2027 - 06 - 30) },
        }];
        report.settle(Severity::Warning, false);
        report
    }

    #[test]
    fn fingerprints_tell_defects_apart_and_stay() {
        assert_eq!(
            fingerprint("rls-disabled", "public.events", ""),
            fingerprint("rls-disabled", "public.events", "")
        );
        assert_ne!(fingerprint("a", "bc", ""), fingerprint("ab", "c", ""));
        // A baseline file holds these: a change here breaks them.
        assert_eq!(fingerprint("rls-disabled", "public.events", ""), "b3d7168aa87c5805");
    }
}
