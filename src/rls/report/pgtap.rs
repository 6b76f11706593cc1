//! The proof as a test file for pgTAP, to be run by `pg_prove`.

use super::{Report, Verdict};
use crate::db::quote::literal;

/// The attacks as tests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tests {
    /// Statements that make the rows of two tenants.
    pub(crate) rows: Vec<String>,
    /// Tests that must run before the context is set for the first time in the session.
    pub(crate) before_context: Vec<String>,
    /// All others.
    pub(crate) after: Vec<String>,
}

impl Report {
    /// The proof as a test file: plain SQL that needs pgTAP, passes on the database that was verified, and fails where a
    /// statement gets through.
    pub fn pgtap(&self) -> String {
        let mut tests: Vec<String> =
            self.tests.before_context.iter().chain(&self.tests.after).cloned().collect();
        for table in self.tables.iter().filter(|table| table.verdict == Verdict::NotProven) {
            let reasons = self.not_proven.iter().filter(|unproven| unproven.object == table.object);
            for unproven in reasons {
                let words = format!("{}: not proven: {}", unproven.object, unproven.reason);
                tests.push(format!("skip({}, 1)", literal(&words.replace(char::is_control, " "))));
            }
        }
        let mut text = String::from(
            "-- Isolation of the tenants, as tenantctl rls verify found it. For pg_prove, as a superuser; everything is \
             rolled back.\n",
        );
        text.push_str("BEGIN;\n");
        for statement in &self.tests.rows {
            text.push_str(&format!("{statement};\n"));
        }
        text.push_str(include_str!("../../../sql/rls/probe/attempt.sql"));
        text.push_str(&format!("SELECT plan({});\n", tests.len()));
        for test in tests {
            text.push_str(&format!("SELECT {test};\n"));
        }
        text.push_str("SELECT * FROM finish();\nROLLBACK;\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::mixed;

    #[test]
    fn as_many_tests_as_planned() {
        let mut report = mixed();
        report.tests.rows = vec!["INSERT INTO t VALUES (1)".into()];
        report.tests.after = vec!["is(1, 1, 'after')".into()];
        report.tests.before_context = vec!["is(1, 1, 'before')".into()];
        let text = report.pgtap();
        let (head, tests) = text.split_once("SELECT plan(3);\n").expect("the plan");
        assert!(head.contains("BEGIN;\nINSERT INTO t VALUES (1);\n"), "{head}");
        assert_eq!(
            tests,
            "SELECT is(1, 1, 'before');\nSELECT is(1, 1, 'after');\nSELECT skip('public.events: not proven: no row could be \
             made: ERROR # 1', 1);\nSELECT * FROM finish();\nROLLBACK;\n"
        );
    }
}
