//! The Test Anything Protocol, version 14.

use std::fmt::Write as _;

use serde_json::Value;

use super::cases::{Outcome, cases};
use super::{Finding, Report};

pub(super) fn render(report: &Report) -> String {
    let cases = cases(report);
    let mut tap = format!("TAP version 14\n1..{}\n", cases.len());
    for (number, case) in (1..).zip(&cases) {
        let (good, directive, diagnosis) = match &case.outcome {
            Outcome::Proven => (true, String::new(), Vec::new()),
            Outcome::Failed(finding) => (false, String::new(), details(finding)),
            Outcome::Told(finding) => (true, String::new(), details(finding)),
            Outcome::Suppressed(one) => {
                (true, format!(" # SKIP {}", escaped(&one.because.to_string())), Vec::new())
            }
            Outcome::Unproven { reasons, fails: false } => {
                (true, format!(" # SKIP not proven: {}", escaped(&reasons.join("; "))), Vec::new())
            }
            Outcome::Unproven { reasons, fails: true } => {
                (false, String::new(), vec![("not_proven", reasons.join("\n"))])
            }
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            tap,
            "{} {number} - {}: {}{directive}",
            if good { "ok" } else { "not ok" },
            escaped(case.group),
            escaped(&case.name)
        );
        if !diagnosis.is_empty() {
            tap.push_str("  ---\n");
            for (key, value) in diagnosis {
                let _ = writeln!(tap, "  {key}: {}", scalar(&value));
            }
            tap.push_str("  ...\n");
        }
    }
    tap
}

fn details(finding: &Finding) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("severity", finding.severity.as_str().to_owned()),
        ("message", finding.message.clone()),
        ("evidence", finding.evidence.clone()),
        ("fix", finding.fix.clone()),
        ("fingerprint", finding.fingerprint.clone()),
    ];
    if !finding.path.is_empty() {
        all.push(("path", finding.path_line()));
    }
    all
}

/// A description is one line, and `#` begins a directive in it.
fn escaped(words: &str) -> String {
    let mut line = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            '#' => line.push_str("\\#"),
            c if c.is_control() => line.push(' '),
            c => line.push(c),
        }
    }
    line
}

/// A value in YAML: a JSON string is one, but for the few control characters that JSON leaves as they are.
fn scalar(words: &str) -> String {
    let quoted = Value::from(words).to_string();
    quoted.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{mixed, reached, report};
    use super::*;
    use crate::rls::report::Severity;

    #[test]
    fn a_line_for_each_case() {
        let tap = render(&mixed());
        let lines: Vec<&str> = tap.lines().filter(|line| !line.starts_with("  ")).collect();
        assert_eq!(
            lines,
            [
                "TAP version 14",
                "1..6",
                "not ok 1 - permissive-leak: public.\"odd, <&> %: name\"",
                "not ok 2 - tenant-nullable: public.events",
                "ok 3 - no-policy: public.tickets",
                "ok 4 - unindexed-tenant-column: public.tiny # SKIP ignored until 2027-06-30: 12 rows",
                "ok 5 - isolation: public.tickets",
                "ok 6 - isolation: public.events # SKIP not proven: no row could be made: ERROR \\# 1",
            ]
        );
        assert!(tap.contains("  ---\n  severity: \"error\"\n  message: \"something is wrong\"\n"), "{tap}");
        assert_eq!(render(&report(Vec::new())), "TAP version 14\n1..0\n");
    }

    #[test]
    fn strict_fails_what_is_not_proven() {
        let mut report = mixed();
        report.settle(Severity::Error, true);
        let tap = render(&report);
        assert!(
            tap.contains("not ok 6 - isolation: public.events\n  ---\n  not_proven: \"no row could"),
            "{tap}"
        );
    }

    #[test]
    fn a_path_is_among_the_details() {
        let tap = render(&report(vec![reached(Severity::Error, "view-definer", "public.v")]));
        let path = "  path: \"login web → role \\\"a -> b\\\" → view public.v\"\n  ...\n";
        assert!(tap.contains(path), "{tap}");
    }

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(escaped("a#b\\c\nd"), "a\\#b\\\\c d");
        let text = "two\nlines \u{7f}\u{85}\u{1} \"quoted\"";
        let back: String = serde_yaml::from_str(&scalar(text)).unwrap();
        assert_eq!(back, "two\nlines \u{fffd}\u{fffd}\u{1} \"quoted\"");
    }
}
