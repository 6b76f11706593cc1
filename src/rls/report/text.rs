//! The report for people: by severity, then by object, the worst first.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::cases::details;
use super::{Report, Severity, Verdict};

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;

struct Page {
    text: String,
    colour: bool,
}

impl Page {
    /// A line of one style; none for plain.
    fn line(&mut self, indent: usize, style: Option<u8>, words: &str) {
        let words = printable(words);
        // Further lines of a value go under its first one.
        let words = words.trim_end().replace('\n', &format!("\n{:1$}", "", indent + 2));
        let words = match style {
            Some(style) => self.styled(style, &words),
            None => words,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:indent$}{words}", "");
    }

    fn styled(&self, style: u8, words: &str) -> String {
        if self.colour { format!("\u{1b}[1;{style}m{words}\u{1b}[0m") } else { words.to_owned() }
    }

    fn heading(&mut self, style: u8, words: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.line(0, Some(style), words);
    }
}

/// Names come from the database, and must not reach the terminal as commands.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

impl Report {
    /// The report for people. Colour is for terminals.
    pub fn text(&self, colour: bool) -> String {
        render(self, colour)
    }
}

fn render(report: &Report, colour: bool) -> String {
    let mut page = Page { text: String::new(), colour };
    for (severity, style) in [(Severity::Error, RED), (Severity::Warning, YELLOW), (Severity::Note, CYAN)] {
        let findings: Vec<_> =
            report.findings.iter().filter(|finding| finding.severity == severity).collect();
        if findings.is_empty() {
            continue;
        }
        page.heading(style, &count(findings.len(), severity.as_str()));
        let mut object = None;
        for finding in findings {
            if object != Some((&finding.object, &finding.object_kind)) {
                page.line(2, None, &format!("{} {}", finding.object_kind, finding.object));
                object = Some((&finding.object, &finding.object_kind));
            }
            let check = page.styled(style, &finding.check);
            let _ = writeln!(page.text, "    {check}");
            page.line(6, None, &finding.message);
            for (label, words) in details(finding) {
                page.line(6, None, &format!("{label}: {words}"));
            }
        }
    }
    if !report.not_proven.is_empty() {
        page.heading(YELLOW, &format!("{} not proven", report.not_proven.len()));
        for unproven in &report.not_proven {
            page.line(2, None, &unproven.object);
            page.line(4, None, &unproven.reason);
        }
    }
    if !report.suppressed.is_empty() {
        page.heading(CYAN, &format!("{} suppressed", report.suppressed.len()));
        for one in &report.suppressed {
            let finding = &one.finding;
            page.line(2, None, &format!("{} on {} {}", finding.check, finding.object_kind, finding.object));
            page.line(4, None, &one.because.to_string());
        }
    }
    if !page.text.is_empty() {
        page.text.push('\n');
    }
    let verdict =
        if report.summary.passed { page.styled(GREEN, "passed") } else { page.styled(RED, "FAILED") };
    let _ = writeln!(page.text, "{verdict}: {}", summary(report));
    page.text
}

/// The counts in a line.
pub(super) fn summary(report: &Report) -> String {
    let summary = &report.summary;
    let proven: BTreeSet<&str> = report
        .tables
        .iter()
        .filter(|table| table.verdict == Verdict::Proven)
        .map(|table| table.object.as_str())
        .collect();
    let mut line = format!(
        "{}, {} proven; {}; {} tried, {} failed; {}, {}, {}",
        count(summary.tables, "table"),
        proven.len(),
        count(summary.checks, "check"),
        count(report.attempts.tried, "attack"),
        report.attempts.failed,
        count(summary.errors, "error"),
        count(summary.warnings, "warning"),
        count(summary.notes, "note"),
    );
    if summary.suppressed > 0 {
        line.push_str(&format!("; {} suppressed", summary.suppressed));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, mixed, reached, report};
    use super::*;

    #[test]
    fn grouped_by_severity_and_object_worst_first() {
        let report = report(vec![
            finding(Severity::Warning, "tenant-nullable", "public.events"),
            finding(Severity::Error, "rls-disabled", "public.events"),
            finding(Severity::Warning, "unindexed-tenant-column", "public.events"),
        ]);
        assert_eq!(
            render(&report, false),
            "1 error\n  table public.events\n    rls-disabled\n      something is wrong\n      evidence: it shows\n      \
             fix: MEND IT;\n\n2 warnings\n  table public.events\n    tenant-nullable\n      something is wrong\n      \
             evidence: it shows\n      fix: MEND IT;\n    unindexed-tenant-column\n      something is wrong\n      \
             evidence: it shows\n      fix: MEND IT;\n\nFAILED: 2 tables, 0 proven; 21 checks; 40 attacks tried, 39 \
             failed; 1 error, 2 warnings, 0 notes\n"
        );
    }

    #[test]
    fn several_steps_are_a_path() {
        let report = report(vec![reached(Severity::Error, "view-definer", "public.v")]);
        let path = "      something is wrong\n      path: login web → role \"a -> b\" → view public.v\n      evidence: it shows\n";
        assert!(render(&report, false).contains(path), "{}", render(&report, false));
    }

    #[test]
    fn what_does_not_count_is_told_with_its_reason() {
        let text = render(&mixed(), false);
        let told = "1 suppressed\n  unindexed-tenant-column on table public.tiny\n    ignored until 2027-06-30: 12 rows\n";
        assert!(text.contains(told) && text.ends_with("; 1 suppressed\n"), "{text}");
        assert!(
            text.contains("1 not proven\n  public.events\n    no row could be made:\n      ERROR # 1\n"),
            "{text}"
        );
    }

    #[test]
    fn colour_is_for_those_who_ask_and_data_has_no_command() {
        let mut report = report(vec![finding(Severity::Error, "rls-disabled", "public.\"\u{1b}[31m\r\"")]);
        assert!(!render(&report, false).contains(['\u{1b}', '\r']));
        assert!(render(&report, true).contains("\u{1b}[1;31mrls-disabled\u{1b}[0m"));
        assert!(!render(&report, true).contains("\u{1b}[31m"));
        report.findings.clear();
        report.settle(Severity::Warning, false);
        assert!(render(&report, true).starts_with("\u{1b}[1;32mpassed\u{1b}[0m: "));
    }
}
