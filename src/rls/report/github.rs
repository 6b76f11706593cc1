//! Annotations of GitHub Actions: workflow commands on standard output.

use super::cases::description;
use super::text::summary;
use super::{Finding, Report, Severity};

pub(super) fn render(report: &Report) -> String {
    let mut lines: Vec<String> = report.findings.iter().map(annotation).collect();
    let level = if report.strict { "error" } else { "notice" };
    for unproven in &report.not_proven {
        let title = format!("not proven: {}", unproven.object);
        lines.push(command(level, &title, &unproven.reason));
    }
    let verdict = if report.summary.passed { "passed" } else { "FAILED" };
    lines.push(format!("rls verify {verdict}: {}", summary(report)));
    lines.join("\n") + "\n"
}

fn annotation(finding: &Finding) -> String {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let title = format!("{} on {} {}", finding.check, finding.object_kind, finding.object);
    command(level, &title, &description(finding))
}

fn command(level: &str, title: &str, message: &str) -> String {
    let title = data(title).replace(':', "%3A").replace(',', "%2C");
    format!("::{level} title={title}::{}", data(message))
}

/// The escapes of a command's text; properties have two more. A log is read at terminals: no other control characters.
fn data(words: &str) -> String {
    let escaped = words.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    escaped.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::mixed;
    use super::*;

    #[test]
    fn a_command_a_line_with_github_s_escapes() {
        let mut report = mixed();
        assert_eq!(
            render(&report).lines().collect::<Vec<_>>(),
            [
                "::error title=permissive-leak on table public.\"odd%2C <&> %25%3A name\"::something is wrong%0Aevidence: \
                 it shows%0Afix: MEND IT;",
                "::warning title=tenant-nullable on table public.events::something is wrong%0Aevidence: it \
                 shows%0Afix: MEND IT;",
                "::notice title=no-policy on table public.tickets::something is wrong%0Aevidence: it shows%0Afix: \
                 MEND IT;",
                "::notice title=not proven%3A public.events::no row could be made:%0AERROR # 1",
                "rls verify FAILED: 2 tables, 1 proven; 21 checks; 40 attacks tried, 39 failed; 1 error, 1 warning, 1 \
                 note; 1 suppressed",
            ]
        );
        report.settle(Severity::Error, true);
        assert!(render(&report).contains("\n::error title=not proven%3A public.events::"));
        assert_eq!(data("50%\r\n\u{1b}::error::x"), "50%25%0D%0A\u{fffd}::error::x");
    }
}
