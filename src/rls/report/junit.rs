//! JUnit's XML.

use std::fmt::Write as _;

use super::Report;
use super::cases::{Case, Outcome, cases, description};

pub(super) fn render(report: &Report) -> String {
    let cases = cases(report);
    let failed =
        |case: &&Case<'_>| matches!(case.outcome, Outcome::Failed(_) | Outcome::Unproven { fails: true, .. });
    let skipped = |case: &&Case<'_>| {
        matches!(case.outcome, Outcome::Suppressed(_) | Outcome::Unproven { fails: false, .. })
    };
    let counts = format!(
        r#"name="rls verify" tests="{}" failures="{}" errors="0" skipped="{}" time="{}.{:03}""#,
        cases.len(),
        cases.iter().filter(failed).count(),
        cases.iter().filter(skipped).count(),
        report.duration_ms / 1000,
        report.duration_ms % 1000,
    );
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite {counts}>\n    <properties>\n"
    );
    let properties = [
        ("server_version", report.server_version.clone()),
        ("engine", report.engine.clone()),
        ("attacks_tried", report.attempts.tried.to_string()),
        ("attacks_failed", report.attempts.failed.to_string()),
    ];
    // Writing to a String cannot fail.
    for (name, value) in properties {
        let _ = writeln!(xml, "      <property name=\"{name}\" value=\"{}\"/>", attribute(&value));
    }
    xml.push_str("    </properties>\n");
    for case in &cases {
        let _ = write!(
            xml,
            "    <testcase classname=\"{}\" name=\"{}\"",
            attribute(case.group),
            attribute(&case.name)
        );
        let inside = match &case.outcome {
            Outcome::Proven => None,
            Outcome::Failed(finding) => {
                Some(failure(finding.severity.as_str(), &finding.message, &description(finding)))
            }
            Outcome::Told(finding) => Some(format!(
                "<system-out>{}: {}</system-out>",
                finding.severity.as_str(),
                text(&description(finding))
            )),
            Outcome::Suppressed(one) => Some(skip(&one.because.to_string())),
            Outcome::Unproven { reasons, fails: true } => {
                Some(failure("not-proven", "not proven", &reasons.join("\n")))
            }
            Outcome::Unproven { reasons, fails: false } => {
                Some(skip(&format!("not proven: {}", reasons.join("\n"))))
            }
        };
        match inside {
            Some(inside) => {
                let _ = writeln!(xml, ">\n      {inside}\n    </testcase>");
            }
            None => xml.push_str("/>\n"),
        }
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn failure(kind: &str, message: &str, body: &str) -> String {
    format!("<failure type=\"{kind}\" message=\"{}\">{}</failure>", attribute(message), text(body))
}

fn skip(message: &str) -> String {
    format!("<skipped message=\"{}\"/>", attribute(message))
}

/// Text between tags. XML 1.0 has no way to write most control characters.
fn text(words: &str) -> String {
    let mut xml = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '\r' => xml.push_str("&#13;"),
            '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => xml.push(c),
            _ => xml.push(char::REPLACEMENT_CHARACTER),
        }
    }
    xml
}

/// Text between quotation marks, where a reader would make spaces of lines.
fn attribute(words: &str) -> String {
    text(words).replace('"', "&quot;").replace('\n', "&#10;").replace('\t', "&#9;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::mixed;
    use super::*;
    use crate::rls::report::Severity;

    #[test]
    fn a_case_for_each_finding_and_each_table() {
        let xml = render(&mixed());
        assert!(
            xml.contains(
                r#"<testsuite name="rls verify" tests="6" failures="2" errors="0" skipped="2" time="0.412">"#
            ),
            "{xml}"
        );
        for case in [
            r#"<testcase classname="permissive-leak" name="public.&quot;odd, &lt;&amp;&gt; %: name&quot;">
      <failure type="error" message="something is wrong">something is wrong
evidence: it shows
fix: MEND IT;</failure>"#,
            r#"<testcase classname="no-policy" name="public.tickets">
      <system-out>note: something is wrong"#,
            r#"<testcase classname="unindexed-tenant-column" name="public.tiny">
      <skipped message="ignored until 2027-06-30: 12 rows"/>"#,
            r#"<testcase classname="isolation" name="public.tickets"/>"#,
            r#"<skipped message="not proven: no row could be made:&#10;ERROR # 1"/>"#,
        ] {
            assert!(xml.contains(case), "no {case} in {xml}");
        }
    }

    #[test]
    fn strict_fails_what_is_not_proven() {
        let mut report = mixed();
        report.settle(Severity::Error, true);
        let xml = render(&report);
        assert!(
            xml.contains(r#"<failure type="not-proven" message="not proven">no row could be made"#),
            "{xml}"
        );
        assert!(xml.contains(r#"failures="2" errors="0" skipped="1""#), "{xml}");
    }

    #[test]
    fn what_xml_cannot_say_is_replaced() {
        assert_eq!(
            text("a\u{0}\u{1b}\u{fffe}\u{1f600}<\r\n"),
            "a\u{fffd}\u{fffd}\u{fffd}\u{1f600}&lt;&#13;\n"
        );
        assert_eq!(attribute("\"\t\n\r'"), "&quot;&#9;&#10;&#13;'");
    }
}
