//! Findings that somebody decided to live with: for a while and with a reason, or because they were there before.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use time::Date;

use crate::rls::report::{Finding, Report, Severity};
use crate::{Error, Result};

time::serde::format_description!(day, Date, "[year]-[month]-[day]");

/// A finding that does not count until a day is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ignore {
    /// Id of the check.
    pub check: String,
    /// The object as the finding names it, or `*` for every object.
    pub object: String,
    /// Why it may stay; never empty.
    #[serde(deserialize_with = "not_blank")]
    pub reason: String,
    /// The last day on which it is ignored.
    #[serde(with = "day")]
    pub until: Date,
}

fn not_blank<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Err(serde::de::Error::custom("the reason is empty: say why the finding may stay"));
    }
    Ok(text)
}

impl Ignore {
    /// Whether it is about the finding.
    fn matches(&self, finding: &Finding) -> bool {
        self.check == finding.check && (self.object == "*" || self.object == finding.object)
    }
}

/// Who kept a finding out of the verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "by")]
pub enum Because {
    /// The baseline has it.
    Baseline,
    /// Somebody ignores it.
    Ignore {
        /// Why.
        reason: String,
        /// The last day.
        #[serde(with = "day")]
        until: Date,
    },
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Baseline => write!(f, "in the baseline"),
            Self::Ignore { reason, until } => write!(f, "ignored until {until}: {reason}"),
        }
    }
}

/// A finding that does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suppressed {
    /// What was found all the same.
    #[serde(flatten)]
    pub finding: Finding,
    /// Why it does not count.
    #[serde(flatten)]
    pub because: Because,
}

/// What has become of an entry that ignores nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stale {
    /// Its day is over, and what it ignored counts again.
    Expired,
    /// Nothing was found that it is about.
    Unmatched,
}

/// An entry that ignores nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaleIgnore {
    /// The entry.
    #[serde(flatten)]
    pub ignore: Ignore,
    /// Why it ignores nothing.
    pub state: Stale,
}

impl std::fmt::Display for StaleIgnore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ignore { check, object, until, .. } = &self.ignore;
        match self.state {
            Stale::Expired => write!(f, "{check} on {object} was ignored until {until}, and counts again"),
            Stale::Unmatched => {
                write!(f, "{check} on {object} is to be ignored, but nothing like it was found")
            }
        }
    }
}

/// The findings of an earlier run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline(BTreeMap<String, Option<Severity>>);

#[derive(Deserialize)]
struct Earlier {
    findings: Vec<Known>,
    #[serde(default)]
    suppressed: Vec<Known>,
}

#[derive(Deserialize)]
struct Known {
    fingerprint: String,
    severity: Option<Severity>,
    by: Option<String>,
}

impl Baseline {
    /// Reads a report of `rls verify -o json`, or any JSON with `findings[].fingerprint`.
    ///
    /// # Errors
    /// [`Error::Configuration`], naming the file, where it cannot be read or is no such report.
    pub fn read(file: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::Configuration {
            what: format!("baseline {}: {reason}", file.display()),
            hint: Some("a baseline is what `tenantctl rls verify -o json` printed".into()),
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(|error| wrong(error.to_string()))
    }

    fn parse(json: &str) -> serde_json::Result<Self> {
        let earlier: Earlier = serde_json::from_str(json)?;
        // What that run knew from a baseline of its own is still old; what it ignored had a day of its own.
        let inherited =
            earlier.suppressed.into_iter().filter(|known| known.by.as_deref() == Some("baseline"));
        let known = earlier.findings.into_iter().chain(inherited);
        Ok(Self(known.map(|known| (known.fingerprint, known.severity)).collect()))
    }

    /// Whether the finding is no news: a suspicion that has become a leak since is.
    fn has(&self, finding: &Finding) -> bool {
        self.0.get(&finding.fingerprint).is_some_and(|then| then.is_none_or(|then| finding.severity <= then))
    }
}

impl Report {
    /// Takes the findings that do not count out of those that do. `whole` says that everything was looked at, so that
    /// an entry without a finding is a leftover.
    pub(crate) fn suppress(&mut self, ignore: &[Ignore], baseline: &Baseline, today: Date, whole: bool) {
        let mut used = vec![false; ignore.len()];
        for finding in std::mem::take(&mut self.findings) {
            let mut because = baseline.has(&finding).then_some(Because::Baseline);
            for (entry, used) in ignore.iter().zip(&mut used).filter(|(entry, _)| entry.matches(&finding)) {
                *used = true;
                if today <= entry.until {
                    because = Some(Because::Ignore { reason: entry.reason.clone(), until: entry.until });
                }
            }
            match because {
                Some(because) => self.suppressed.push(Suppressed { finding, because }),
                None => self.findings.push(finding),
            }
        }
        for (entry, used) in ignore.iter().zip(used) {
            let state = match (used, today > entry.until) {
                (true, false) => continue,
                (true, true) => Stale::Expired,
                (false, _) if whole => Stale::Unmatched,
                (false, _) => continue,
            };
            self.stale_ignores.push(StaleIgnore { ignore: entry.clone(), state });
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;
    use crate::rls::report::tests::{finding, report};

    fn ignore(check: &str, object: &str) -> Ignore {
        Ignore {
            check: check.into(),
            object: object.into(),
            reason: "12 rows".into(),
            until: date!(2027 - 06 - 30),
        }
    }

    fn states(report: &Report) -> Vec<Stale> {
        report.stale_ignores.iter().map(|stale| stale.state).collect()
    }

    fn suppressed(ignore: &[Ignore], baseline: &str, today: Date) -> Report {
        let mut report = report(vec![
            finding(Severity::Warning, "unindexed-tenant-column", "public.tiny"),
            finding(Severity::Warning, "unindexed-tenant-column", "public.large"),
        ]);
        report.suppress(ignore, &Baseline::parse(baseline).unwrap(), today, true);
        report.settle(Severity::Warning, false);
        report
    }

    const NONE: &str = r#"{"findings": []}"#;

    #[test]
    fn an_entry_holds_until_its_day_is_over() {
        let entry = [ignore("unindexed-tenant-column", "public.tiny")];
        let last = suppressed(&entry, NONE, date!(2027 - 06 - 30));
        assert_eq!((last.summary.suppressed, last.findings.len()), (1, 1));
        assert_eq!(last.findings[0].object, "public.large");
        assert!(last.stale_ignores.is_empty() && !last.summary.passed);
        let after = suppressed(&entry, NONE, date!(2027 - 07 - 01));
        assert_eq!((after.summary.suppressed, after.findings.len()), (0, 2));
        assert_eq!(states(&after), [Stale::Expired]);
    }

    #[test]
    fn an_entry_for_all_objects_lets_the_run_pass() {
        let report = suppressed(&[ignore("unindexed-tenant-column", "*")], NONE, date!(2027 - 01 - 01));
        assert!(report.summary.passed && report.findings.is_empty());
        assert_eq!((report.summary.suppressed, report.summary.warnings), (2, 0));
    }

    #[test]
    fn an_entry_without_a_finding_is_told_only_where_all_was_looked_at() {
        let entries = [ignore("unindexed-tenant-column", "public.tin"), ignore("no-policy", "public.tiny")];
        let report = suppressed(&entries, NONE, date!(2027 - 01 - 01));
        assert_eq!((states(&report), report.findings.len()), (vec![Stale::Unmatched; 2], 2));
        let mut narrowed = super::super::report::tests::report(Vec::new());
        narrowed.suppress(&entries, &Baseline::default(), date!(2027 - 01 - 01), false);
        assert!(narrowed.stale_ignores.is_empty());
    }

    #[test]
    fn an_entry_needs_a_reason_and_a_day() {
        let read = |yaml: &str| serde_yaml::from_str::<Ignore>(yaml).map_err(|error| error.to_string());
        let good =
            "{check: unindexed-tenant-column, object: public.tiny, reason: 12 rows, until: 2027-06-30}";
        assert_eq!(read(good), Ok(ignore("unindexed-tenant-column", "public.tiny")));
        for (broken, complaint) in [
            (good.replace("reason: 12 rows, ", ""), "reason"),
            (good.replace("12 rows", "' '"), "the reason is empty"),
            (good.replace(", until: 2027-06-30", ""), "until"),
            (good.replace("2027-06-30", "2027-02-30"), "day"),
            (good.replace("object", "table"), "table"),
        ] {
            let error = read(&broken).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_baseline_keeps_what_is_new_or_worse() {
        let known = suppressed(&[], NONE, date!(2027 - 01 - 01));
        let fingerprint = &known.findings[0].fingerprint;
        let with = |severity: &str| {
            let json = format!(r#"{{"findings": [{{"fingerprint": "{fingerprint}"{severity}}}]}}"#);
            suppressed(&[], &json, date!(2027 - 01 - 01)).summary.suppressed
        };
        assert_eq!(with(""), 1);
        assert_eq!(with(r#", "severity": "warning""#), 1);
        assert_eq!(with(r#", "severity": "note""#), 0, "it was a note then");
    }

    #[test]
    fn a_baseline_hands_on_what_it_had_but_not_what_was_ignored() {
        let entry = [ignore("unindexed-tenant-column", "public.tiny")];
        let all = serde_json::to_string(&suppressed(&[], NONE, date!(2027 - 01 - 01))).unwrap();
        let one_ignored = suppressed(&entry, &all, date!(2027 - 01 - 01));
        assert_eq!(one_ignored.summary.suppressed, 2);
        let next = serde_json::to_string(&one_ignored).unwrap();
        let later = suppressed(&entry, &next, date!(2028 - 01 - 01));
        assert_eq!(later.findings.len(), 1, "{later:#?}");
        assert_eq!(later.findings[0].object, "public.tiny");
    }
}
