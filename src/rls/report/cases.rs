//! A report as a list of test cases, for the forms that know nothing else.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Report, Suppressed, Verdict};

/// How a case went.
pub(super) enum Outcome<'a> {
    /// A table that no statement got through to.
    Proven,
    /// A finding that fails the run.
    Failed(&'a Finding),
    /// A finding that does not.
    Told(&'a Finding),
    /// A finding that does not count.
    Suppressed(&'a Suppressed),
    /// Something that was not tried, or not fully.
    Unproven { reasons: Vec<&'a str>, fails: bool },
}

/// A check at an object, or the proof of a table.
pub(super) struct Case<'a> {
    /// The check, or `isolation` for a table's proof.
    pub(super) group: &'a str,
    /// The object; with the fingerprint where a check has several findings there.
    pub(super) name: String,
    pub(super) outcome: Outcome<'a>,
}

/// What a proof of a table is called among the names of the checks.
const PROOF: &str = "isolation";

pub(super) fn cases(report: &Report) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for finding in &report.findings {
        let outcome = if report.fails(finding) { Outcome::Failed(finding) } else { Outcome::Told(finding) };
        cases.push(about(finding, outcome));
    }
    for suppressed in &report.suppressed {
        cases.push(about(&suppressed.finding, Outcome::Suppressed(suppressed)));
    }
    let mut seen = BTreeMap::<_, usize>::new();
    for case in &cases {
        *seen.entry((case.group.to_owned(), case.name.clone())).or_default() += 1;
    }
    for case in &mut cases {
        if seen.get(&(case.group.to_owned(), case.name.clone())).is_some_and(|times| *times > 1)
            && let Outcome::Failed(finding)
            | Outcome::Told(finding)
            | Outcome::Suppressed(Suppressed { finding, .. }) = case.outcome
        {
            case.name = format!("{} [{}]", case.name, finding.fingerprint);
        }
    }
    let mut unproven = BTreeMap::<&str, Vec<&str>>::new();
    for one in &report.not_proven {
        unproven.entry(&one.object).or_default().push(&one.reason);
    }
    // Attacked as several roles, a table has several verdicts: all of them have to be good.
    let mut tables = BTreeMap::<&str, bool>::new();
    for table in &report.tables {
        *tables.entry(&table.object).or_insert(true) &= table.verdict == Verdict::Proven;
    }
    let proven: BTreeSet<&str> =
        tables.into_iter().filter(|(_, proven)| *proven).map(|(name, _)| name).collect();
    for object in proven {
        if !unproven.contains_key(object) {
            cases.push(Case { group: PROOF, name: object.to_owned(), outcome: Outcome::Proven });
        }
    }
    for (object, reasons) in unproven {
        let outcome = Outcome::Unproven { reasons, fails: report.strict };
        cases.push(Case { group: PROOF, name: object.to_owned(), outcome });
    }
    cases
}

fn about<'a>(finding: &'a Finding, outcome: Outcome<'a>) -> Case<'a> {
    Case { group: &finding.check, name: finding.object.clone(), outcome }
}

/// How it is reached, what shows it and what mends it, as far as there is something to say.
pub(super) fn details(finding: &Finding) -> impl Iterator<Item = (&'static str, String)> {
    [("path", finding.path_line()), ("evidence", finding.evidence.clone()), ("fix", finding.fix.clone())]
        .into_iter()
        .filter(|(_, words)| !words.is_empty())
}

/// What is wrong, and the details, a line each.
pub(super) fn description(finding: &Finding) -> String {
    let mut text = finding.message.clone();
    for (label, words) in details(finding) {
        text.push_str(&format!("\n{label}: {words}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, mixed, reached, report};
    use super::*;
    use crate::rls::report::{Severity, TableVerdict};

    #[test]
    fn two_findings_of_a_check_at_an_object_are_two_cases() {
        let mut second = finding(Severity::Error, "permissive-leak", "public.events");
        second.fingerprint = "0123456789abcdef".into();
        let report = report(vec![finding(Severity::Error, "permissive-leak", "public.events"), second]);
        let names: BTreeSet<String> = cases(&report).into_iter().map(|case| case.name).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn a_path_is_part_of_the_body() {
        let body = description(&reached(Severity::Error, "view-definer", "public.v"));
        let path = "path: login web → role \"a -> b\" → view public.v";
        assert_eq!(body, format!("something is wrong\n{path}\nevidence: it shows\nfix: MEND IT;"));
    }

    #[test]
    fn a_table_is_proven_only_where_it_is_for_every_role() {
        let mut report = mixed();
        let proven = |report: &Report| {
            cases(report).iter().filter(|case| matches!(case.outcome, Outcome::Proven)).count()
        };
        assert_eq!(proven(&report), 1);
        report.tables.push(TableVerdict {
            object: "public.tickets".into(),
            verdict: Verdict::Leak,
            tried: 3,
        });
        assert_eq!(proven(&report), 0);
    }
}
