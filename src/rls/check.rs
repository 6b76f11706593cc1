//! The isolation checks: what each is called, why it matters and how to mend it, read from its file's header.

use crate::rls::report::Severity;

/// One check: a file under `sql/rls/checks`.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name in reports.
    pub id: &'static str,
    /// How bad a finding is, unless the finding says otherwise.
    pub severity: Severity,
    /// The file: a header of `-- key: value` lines, then the query. Checks that only probes can make have no query.
    pub(crate) source: &'static str,
}

impl Check {
    fn header(&self, key: &str) -> &'static str {
        self.source
            .lines()
            .filter_map(|line| line.strip_prefix("-- ")?.split_once(": "))
            .find_map(|(name, value)| (name == key).then_some(value))
            .unwrap_or_default()
    }

    /// What is wrong, in one line.
    pub fn title(&self) -> &'static str {
        self.header("title")
    }

    /// What an intruder does with it.
    pub fn why(&self) -> &'static str {
        self.header("why")
    }

    /// How to mend it.
    pub fn fix(&self) -> &'static str {
        self.header("fix")
    }

    /// The query, unless only probes can tell.
    pub(crate) fn query(&self) -> Option<&'static str> {
        let has_query = self.source.lines().any(|line| !line.is_empty() && !line.starts_with("--"));
        has_query.then_some(self.source)
    }

    /// Whether its findings are suspicions that probes convict or clear.
    pub(crate) fn is_suspicion(&self) -> bool {
        self.header("suspicion") == "probe"
    }
}

/// Every check there is, by name: the files under `sql/rls/checks`, as the build found them.
pub const ALL: &[Check] = include!(concat!(env!("OUT_DIR"), "/checks.rs"));

/// The check of that name.
pub fn find(id: &str) -> Option<&'static Check> {
    ALL.iter().find(|check| check.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_complete() {
        for check in ALL {
            assert_eq!(check.header("id"), check.id);
            for text in [check.title(), check.why(), check.fix()] {
                assert!(!text.is_empty(), "{}", check.id);
            }
        }
    }
}
