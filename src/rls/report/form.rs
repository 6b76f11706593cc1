//! The forms of a report.

use std::str::FromStr;

use super::{Report, github, junit, sarif, tap};
use crate::{Result, suggest};

/// A form that a report can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs: everything there is.
    Json,
    /// JUnit's XML, for continuous integration.
    Junit,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// The Test Anything Protocol, version 14.
    Tap,
    /// Annotations of GitHub Actions.
    Github,
}

impl Form {
    /// Every form, by the name that options use.
    pub const ALL: [(&'static str, Self); 6] = [
        ("text", Self::Text),
        ("json", Self::Json),
        ("junit", Self::Junit),
        ("sarif", Self::Sarif),
        ("tap", Self::Tap),
        ("github", Self::Github),
    ];

    /// The report in this form. Only text has colour, and only where that is asked for.
    ///
    /// # Errors
    /// Where JSON cannot be made of it.
    pub fn render(self, report: &Report, colour: bool) -> serde_json::Result<String> {
        let json = |value: &serde_json::Value| serde_json::to_string_pretty(value).map(|text| text + "\n");
        Ok(match self {
            Self::Text => report.text(colour),
            Self::Json => json(&serde_json::to_value(report)?)?,
            Self::Junit => junit::render(report),
            Self::Sarif => json(&sarif::render(report))?,
            Self::Tap => tap::render(report),
            Self::Github => github::render(report),
        })
    }
}

impl FromStr for Form {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self> {
        suggest::one_of("form", text, &Self::ALL)
    }
}
