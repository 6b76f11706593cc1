//! SARIF 2.1.0.

use serde_json::{Value, json};

use super::cases::description;
use super::{Finding, Report, Severity};
use crate::rls::check::{self, Check};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The rule for what could not be proven; no check has this name.
const NOT_PROVEN: &str = "not-proven";

pub(super) fn render(report: &Report) -> Value {
    let mut results: Vec<Value> = report.findings.iter().map(result).collect();
    for suppressed in &report.suppressed {
        let mut one = result(&suppressed.finding);
        let justification = suppressed.because.to_string();
        one["suppressions"] =
            json!([{ "kind": "external", "status": "accepted", "justification": justification }]);
        results.push(one);
    }
    // An open question is neither a pass nor a failure, unless it was decided that it is one.
    let (kind, level) = if report.strict { ("fail", "error") } else { ("open", "none") };
    for unproven in &report.not_proven {
        results.push(json!({
            "ruleId": NOT_PROVEN,
            "ruleIndex": check::ALL.len(),
            "kind": kind,
            "level": level,
            "message": { "text": format!("{} is not proven: {}", unproven.object, unproven.reason) },
            "locations": [{ "logicalLocations": [{ "fullyQualifiedName": unproven.object }] }],
        }));
    }
    let mut rules: Vec<Value> = check::ALL.iter().map(rule).collect();
    rules.push(json!({
        "id": NOT_PROVEN,
        "shortDescription": { "text": "Isolation could not be proven" },
        "fullDescription": { "text": "Not every attack could be tried, so that their silence proves nothing." },
        "help": { "text": "The message says what stood in the way." },
    }));
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "tenantctl",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "invocations": [{ "executionSuccessful": true }],
            "results": results,
            "properties": {
                "serverVersion": report.server_version,
                "attacksTried": report.attempts.tried,
                "attacksFailed": report.attempts.failed,
            },
        }],
    })
}

/// SARIF's levels bear the same names as ours.
fn level(severity: Severity) -> &'static str {
    severity.as_str()
}

fn rule(check: &Check) -> Value {
    let example: String = check.examples().iter().map(|line| format!("\n    {line}")).collect();
    let text = format!("{}\n\n{}", check.why(), check.fix());
    let markdown = if example.is_empty() { text.clone() } else { format!("{text}\n{example}") };
    json!({
        "id": check.id,
        "shortDescription": { "text": check.title() },
        "fullDescription": { "text": check.why() },
        "help": { "text": text, "markdown": markdown },
        "defaultConfiguration": { "level": level(check.severity) },
        "properties": { "tags": ["security", "tenant-isolation"] },
    })
}

fn result(finding: &Finding) -> Value {
    let mut result = json!({
        "ruleId": finding.check,
        "level": level(finding.severity),
        "message": { "text": description(finding) },
        "partialFingerprints": { "tenantctl/v1": finding.fingerprint },
        "locations": [{ "logicalLocations": [{
            "fullyQualifiedName": finding.object,
            "kind": finding.object_kind,
        }] }],
        "properties": { "evidence": finding.evidence, "fix": finding.fix, "source": finding.source },
    });
    if let Some(index) = check::ALL.iter().position(|check| check.id == finding.check) {
        result["ruleIndex"] = index.into();
    }
    if !finding.path.is_empty() {
        let steps: Vec<Value> = finding
            .path
            .iter()
            .map(|step| {
                json!({ "location": {
                    "logicalLocations": [{ "fullyQualifiedName": step.name, "kind": step.kind }],
                    "message": { "text": format!("{} {}", step.kind, step.name) },
                } })
            })
            .collect();
        result["codeFlows"] = json!([{ "threadFlows": [{ "locations": steps }] }]);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::tests::{finding, mixed, reached, report};
    use super::*;

    #[test]
    fn the_structure_that_the_standard_requires() {
        let log = render(&mixed());
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        assert_eq!(run["tool"]["driver"]["name"], "tenantctl");
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        let mut ids: Vec<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), check::ALL.len() + 1);
        for rule in rules {
            for text in ["shortDescription", "fullDescription", "help"] {
                assert!(!rule[text]["text"].as_str().unwrap().is_empty(), "{rule}");
            }
        }
        let results = run["results"].as_array().unwrap();
        assert_eq!(results.len(), 5);
        for result in results {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            let place = &result["locations"][0]["logicalLocations"][0];
            assert!(place["fullyQualifiedName"].is_string(), "{result}");
            let levels: &[&str] =
                if result["kind"] == "open" { &["none"] } else { &["error", "warning", "note"] };
            assert!(levels.contains(&result["level"].as_str().unwrap()), "{result}");
        }
        assert_eq!(results[0]["level"], "error");
        assert_eq!(results[0]["partialFingerprints"]["tenantctl/v1"], mixed().findings[0].fingerprint);
        assert_eq!(results[3]["suppressions"][0]["justification"], "ignored until 2027-06-30: 12 rows");
        assert!(results[0].get("suppressions").is_none());
    }

    #[test]
    fn a_path_is_a_code_flow() {
        let log = render(&report(vec![
            reached(Severity::Error, "view-definer", "public.v"),
            finding(Severity::Warning, "tenant-nullable", "public.events"),
        ]));
        let results = &log["runs"][0]["results"];
        let steps = results[0]["codeFlows"][0]["threadFlows"][0]["locations"].as_array().unwrap();
        let names: Vec<&Value> =
            steps.iter().map(|step| &step["location"]["logicalLocations"][0]["fullyQualifiedName"]).collect();
        assert_eq!(names, ["web", "\"a -> b\"", "public.v"]);
        assert_eq!(steps[0]["location"]["message"]["text"], "login web");
        assert!(results[1].get("codeFlows").is_none());
    }

    #[test]
    fn strict_makes_a_failure_of_what_is_not_proven() {
        let mut report = mixed();
        report.settle(Severity::Error, true);
        let log = render(&report);
        let last = log["runs"][0]["results"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["kind"], &last["level"]), (&json!("fail"), &json!("error")));
    }
}
