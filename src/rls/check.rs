//! The isolation checks: what each is called, why it matters and how to mend it, read from its file's header.

use serde::Serialize;

use crate::rls::report::Severity;
use crate::{Error, Result, suggest};

/// How a defect is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The system catalogue shows it.
    Catalog,
    /// Only an attack shows it.
    Probe,
    /// The catalogue raises the suspicion; attacks convict or clear.
    Both,
    /// The rows themselves show it.
    Rows,
}

impl Method {
    /// In a sentence, for help.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Catalog => "the system catalogue shows it",
            Self::Probe => "an attack as the application role, rolled back, gets through",
            Self::Both => {
                "the system catalogue raises the suspicion, and attacks as the application role decide"
            }
            Self::Rows => "the rows show it, read by whoever verifies",
        }
    }
}

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
    /// The values of a key, in the order of the file.
    fn headers(&self, key: &str) -> impl Iterator<Item = &'static str> {
        self.source
            .lines()
            .take_while(|line| line.starts_with("-- "))
            .filter_map(|line| line.strip_prefix("-- ")?.split_once(": "))
            .filter_map(move |(name, value)| (name == key).then_some(value))
    }

    fn header(&self, key: &str) -> &'static str {
        self.headers(key).next().unwrap_or_default()
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

    /// The defect and the way through it, a line of SQL each.
    pub fn examples(&self) -> Vec<&'static str> {
        self.headers("example").collect()
    }

    /// How it is found.
    pub fn method(&self) -> Method {
        match (self.query(), self.is_probed()) {
            (Some(_), false) => Method::Catalog,
            (Some(_), true) => Method::Both,
            (None, true) => Method::Probe,
            (None, false) => Method::Rows,
        }
    }

    /// The query, unless only probes can tell.
    pub(crate) fn query(&self) -> Option<&'static str> {
        let has_query = self.source.lines().any(|line| !line.is_empty() && !line.starts_with("--"));
        has_query.then_some(self.source)
    }

    /// Whether its query asks what only a server with Citus has.
    pub(crate) fn needs_citus(&self) -> bool {
        self.header("needs") == "citus"
    }

    /// Whether its query takes the policies' expressions.
    pub(crate) fn reads_policies(&self) -> bool {
        self.source.contains("$11")
    }

    /// Whether its findings are suspicions that probes convict or clear.
    pub(crate) fn is_suspicion(&self) -> bool {
        self.header("suspicion") == "probe"
    }

    /// Whether probes have a say in it.
    pub(crate) fn is_probed(&self) -> bool {
        self.is_suspicion()
            || (self.query().is_none() && self.header("reads") != "rows")
            || matches!(self.id, "rls-disabled" | "partition-open" | "rls-not-forced")
    }
}

/// Every check there is, by name: the files under `sql/rls/checks`, as the build found them.
pub const ALL: &[Check] = include!(concat!(env!("OUT_DIR"), "/checks.rs"));

/// The check of that name.
pub fn find(id: &str) -> Option<&'static Check> {
    ALL.iter().find(|check| check.id == id)
}

/// The check of that name.
///
/// # Errors
/// [`Error::NotFound`], with the name that was probably meant.
pub fn named(id: &str) -> Result<&'static Check> {
    find(id).ok_or_else(|| Error::NotFound {
        kind: "check",
        name: id.to_owned(),
        suggestion: suggest::closest(id, ALL.iter().map(|check| check.id)),
    })
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

    #[test]
    fn the_header_ends_where_the_query_begins() {
        let source = "-- id: a\n-- example: one: two\n-- example:   three\nSELECT 1\n-- example: four";
        let check = Check { id: "a", severity: Severity::Note, source };
        assert_eq!(check.examples(), ["one: two", "  three"]);
        assert_eq!(check.method(), Method::Catalog);
    }

    #[test]
    fn each_way_of_finding_is_told() {
        let method = |id| named(id).unwrap().method();
        assert_eq!(method("grant-truncate"), Method::Catalog);
        assert_eq!(method("delete-leak"), Method::Probe);
        assert_eq!(method("permissive-leak"), Method::Both);
        assert_eq!(method("rls-disabled"), Method::Both);
        assert_eq!(method("data-drift"), Method::Rows);
    }

    #[test]
    fn a_typo_is_recognised() {
        let error = named("grant-trunkate").unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("did you mean \"grant-truncate\"?"));
    }
}
