//! The forms of a report, in files and on standard output; what is ignored or known; and the explanations.

use std::collections::BTreeSet;
use std::path::Path;

use crate::common::verify;
use serde_json::Value;
use tenancy::rls::report::{Because, Stale};
use tenancy::rls::{Ignore, Options, Severity, check};

use super::{HELPER, SCHEMA, assert_found, database, find};
use crate::common::{self, Database, Run, run, tenantctl};

const LEAK: &str = "DROP POLICY tenant_floor ON public.events;
                    CREATE POLICY \"50%, <all>: \"\"everything\"\" & more\" ON public.events FOR SELECT USING (true)";

async fn planted(sql: &str) -> Database {
    let db = Database::migrated().await;
    for statements in [HELPER, SCHEMA, sql] {
        common::execute(&db.options, statements).await;
    }
    db
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn one_run_writes_every_form() {
    let db = planted(LEAK).await;
    let folder = tempfile::tempdir().expect("a folder");
    let forms = ["text", "json", "junit", "sarif", "tap", "github"];
    let mut arguments = vec!["rls".to_owned(), "verify".into(), "--format".into(), "tap".into()];
    for form in forms {
        arguments.extend(["--report".into(), format!("{form}={}", path(folder.path(), form))]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    std::fs::write(folder.path().join("tap"), "an older report").expect("a file");
    let run = db.tenantctl(&arguments).expect(5);
    assert_eq!(names(folder.path()), forms.map(str::to_owned).into(), "complete, and nothing else");
    let read = |form: &str| std::fs::read_to_string(folder.path().join(form)).expect("a report");
    assert_eq!(read("tap"), run.stdout);
    assert!(run.stderr.contains(&format!("wrote {}\n", path(folder.path(), "sarif"))), "{run:?}");

    let json: Value = serde_json::from_str(&read("json")).expect("JSON");
    assert_eq!(json["summary"]["passed"], false);
    let findings = json["findings"].as_array().expect("findings");
    let leak = findings.iter().find(|finding| finding["check"] == "permissive-leak").expect("the leak");
    assert_eq!((&leak["object"], &leak["severity"]), (&"public.events".into(), &"error".into()));

    let text = read("text");
    let errors = json["summary"]["errors"].as_u64().expect("a count");
    assert!(text.starts_with(&format!("{errors} error")) && text.contains("    permissive-leak\n"), "{text}");
    assert!(text.contains(&format!("{} attacks tried", json["attempts"]["tried"])), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");

    let sarif: Value = serde_json::from_str(&read("sarif")).expect("JSON");
    let results = sarif["runs"][0]["results"].as_array().expect("results");
    let result = results.iter().find(|result| result["ruleId"] == "permissive-leak").expect("the leak");
    assert_eq!(result["partialFingerprints"]["tenantctl/v1"], leak["fingerprint"]);

    let tap = read("tap");
    let numbered = tap.lines().filter(|line| line.starts_with("ok ") || line.starts_with("not ok ")).count();
    assert_eq!(tap.lines().nth(1), Some(format!("1..{numbered}").as_str()));
    assert!(tap.contains(" - permissive-leak: public.events\n"), "{tap}");
    assert!(tap.contains("ok ") && tap.contains(" - isolation: public.tickets\n"), "{tap}");

    let junit = read("junit");
    assert!(junit.contains(
        "<testcase classname=\"permissive-leak\" name=\"public.events\">\n      <failure type=\"error\""
    ));
    assert!(junit.contains("<testcase classname=\"isolation\" name=\"public.tickets\"/>"), "{junit}");
    assert!(junit.contains("50%, &lt;all&gt;: ") && !junit.contains("<all>"), "{junit}");

    let github = read("github");
    assert!(github.contains("::error title=permissive-leak on table public.events::"), "{github}");
    assert!(github.contains("50%25, <all>: "), "{github}");
}

#[tokio::test]
async fn a_report_needs_a_file_that_can_be_written() {
    let db = planted("").await;
    let refused = |report: &str, complaint: &str| {
        let run = db.tenantctl(&["rls", "verify", "--report", report]).expect(2);
        assert!(run.stdout.is_empty() && run.stderr.contains(complaint), "{run:?}");
    };
    refused("sarif", "it names no file");
    refused("sarif=-", "it names no file");
    refused("sarf=out.sarif", "did you mean \"sarif\"?");
    refused("sarif=/nonexistent/out.sarif", "/nonexistent/out.sarif");
    refused("sarif=/dev/stdout", "no regular file");
}

#[tokio::test]
async fn the_format_decides_over_the_output() {
    let db = planted(LEAK).await;
    let verify = |arguments: &[&str]| db.tenantctl(&[&["rls", "verify", "--no-probes"], arguments].concat());
    let json = verify(&["--format", "json"]).expect(5);
    assert_eq!(json.json()["schema_version"], 1);
    let text = verify(&["-o", "json", "--format", "text"]).expect(5);
    assert!(text.stdout.contains("FAILED: 2 tables, 0 proven"), "{text:?}");
    let coloured = verify(&["--color", "always"]).expect(5);
    assert!(coloured.stdout.contains("\u{1b}[1;31mFAILED\u{1b}[0m"), "{coloured:?}");
    let plain = run(db
        .command()
        .args(["rls", "verify", "--no-probes"])
        .env("CLICOLOR_FORCE", "1")
        .env("NO_COLOR", "1"));
    assert!(!plain.expect(5).stdout.contains('\u{1b}'));
}

#[tokio::test]
async fn only_what_is_not_in_the_baseline_fails() {
    let db = planted(LEAK).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(folder.path(), "baseline.json");
    let first = db.tenantctl(&["rls", "verify", "-o", "json"]).expect(5);
    std::fs::write(&file, &first.stdout).expect("a file");
    let known = first.json()["findings"].as_array().expect("findings").len();
    let verify = |file: &str| -> Run { db.tenantctl(&["rls", "verify", "-o", "json", "--baseline", file]) };

    let second = verify(&file).expect(0).json();
    assert_eq!(second["summary"]["suppressed"], known);
    assert_eq!((&second["summary"]["errors"], &second["summary"]["passed"]), (&0.into(), &true.into()));
    assert_eq!(second["suppressed"][0]["by"], "baseline");

    common::execute(&db.options, "GRANT TRUNCATE ON public.tickets TO tenancy_app").await;
    let third = verify(&file).expect(5).json();
    assert_eq!(third["summary"]["suppressed"], known);
    assert_eq!(third["findings"].as_array().expect("findings").len(), 1, "{third}");
    assert_eq!(third["findings"][0]["check"], "grant-truncate");

    for (name, content) in
        [("missing.json", None), ("text.json", Some("rls-disabled")), ("other.json", Some("{}"))]
    {
        let file = path(folder.path(), name);
        if let Some(content) = content {
            std::fs::write(&file, content).expect("a file");
        }
        let error = db.refused(2, &["rls", "verify", "--baseline", &file]);
        assert!(error["message"].as_str().expect("a message").contains(name), "{error}");
    }
}

#[tokio::test]
async fn what_is_ignored_does_not_fail() {
    let connect = database(LEAK).await;
    let entry = |check: &str, object: &str, until| {
        let yaml = format!("{{check: {check}, object: {object}, reason: being mended, until: {until}}}");
        serde_yaml::from_str::<Ignore>(&yaml).expect("an entry")
    };
    let options = Options {
        ignore: vec![
            entry("permissive-leak", "'*'", "2999-12-31"),
            entry("grant-truncate", "public.events", "2999-12-31"),
        ],
        ..Options::default()
    };
    let report = verify(&connect, &options).await.expect("a report");
    assert!(report.summary.passed && report.passed(Severity::Warning, false), "{report:#?}");
    assert_eq!(report.summary.suppressed, report.suppressed.len());
    let leak = report.suppressed.iter().find(|one| one.finding.object == "public.events").expect("the leak");
    assert!(matches!(&leak.because, Because::Ignore { reason, .. } if reason == "being mended"), "{leak:?}");
    let stale: Vec<_> =
        report.stale_ignores.iter().map(|one| (one.ignore.check.as_str(), one.state)).collect();
    assert_eq!(stale, [("grant-truncate", Stale::Unmatched)]);

    let options = Options {
        ignore: vec![entry("permissive-leak", "public.events", "2020-01-01")],
        ..Options::default()
    };
    let report = verify(&connect, &options).await.expect("a report");
    assert_found(&report, Severity::Error, "permissive-leak", "public.events");
    assert_eq!((report.summary.suppressed, report.stale_ignores[0].state), (0, Stale::Expired));
    assert!(find(&report, "permissive-leak", "public.events").is_some_and(|finding| report.fails(finding)));
}

#[test]
fn checks_are_listed_and_explained_without_a_database() {
    let list = run(tenantctl().args(["rls", "checks", "-o", "json"])).expect(0).json();
    let list = list.as_array().expect("a list");
    assert_eq!(list.len(), check::ALL.len());
    assert!(list.iter().all(|check| check["title"].is_string() && check["found_by"].is_string()), "{list:?}");
    let table = run(tenantctl().args(["rls", "checks"])).expect(0).stdout;
    assert!(
        table.lines().any(|line| line.starts_with("grant-truncate ") && line.contains(" error ")),
        "{table}"
    );

    let text = run(tenantctl().args(["rls", "explain", "grant-truncate"])).expect(0).stdout;
    let found = check::find("grant-truncate").expect("a check");
    for part in [found.title(), found.why(), found.fix(), found.method().describe()] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(text.contains("\nExample\n  GRANT ALL ON public.events TO tenancy_app;\n"), "{text}");
    let json = run(tenantctl().args(["rls", "explain", "delete-leak", "-o", "json"])).expect(0).json();
    assert_eq!((&json["found_by"], &json["severity"]), (&"probe".into(), &"error".into()));

    let unknown = run(tenantctl().args(["rls", "explain", "grant-trunkate"])).expect(3);
    assert_eq!(
        unknown.stderr,
        "error: check \"grant-trunkate\" not found\nhint: did you mean \"grant-truncate\"?\n"
    );
    let stranger = run(tenantctl().args(["rls", "explain", "weather"])).expect(3);
    assert!(stranger.stderr.ends_with("hint: `tenantctl rls checks` shows what there is\n"), "{stranger:?}");
}
