//! How a verification ends: refused, cut short, interrupted; and that a defect keeps its name.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::common::verify;
use serde_json::Value;
use tenancy::rls::Options;
use tenancy::rls::Severity::Error;
use tenancy::rls::report::Source;

use super::{HELPER, SCHEMA, assert_found, find};
use crate::common::{self, Database, run, tenantctl};

/// A database whose trigger dawdles wherever a role of this name writes a ticket.
async fn dawdling(role: &str) -> Database {
    let db = Database::migrated().await;
    let trigger = format!(
        "CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF current_user LIKE '{role}' THEN PERFORM pg_sleep(60); END IF; RETURN NEW; END $$;
         CREATE TRIGGER dawdle BEFORE INSERT ON public.tickets FOR EACH ROW EXECUTE FUNCTION public.dawdle();"
    );
    for sql in [HELPER, SCHEMA, &trigger] {
        common::execute(&db.options, sql).await;
    }
    db
}

const ASLEEP: &str = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep' AND state = 'active'";

fn until_asleep(db: &Database) {
    for _ in 0..600 {
        if db.sql(&format!("SELECT count(*) {ASLEEP}")) != "0" {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no probe came to the trigger");
}

fn start(db: &Database, arguments: &[&str]) -> Child {
    let mut command = db.command();
    command.args(["rls", "verify"]).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("a process")
}

fn traces(db: &Database) -> String {
    db.sql(
        "SELECT (SELECT count(*) FROM public.events), (SELECT count(*) FROM public.tickets),
                (SELECT count(*) FROM public.countries), (SELECT count(*) FROM tenancy.tenants),
                (SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                  WHERE d.datname = current_database() AND l.pid <> pg_backend_pid()),
                (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())",
    )
}

#[tokio::test]
async fn a_killed_connection_leaves_a_report_of_what_was_done() {
    let db = dawdling("test%second").await;
    // The second of two roles is the one that dawdles.
    let second = format!("{}_second", db.name);
    db.sql(&format!("CREATE ROLE {second} IN ROLE tenancy_app"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let report = format!("json={}", file.display());
    let child = start(
        &db,
        &["--role", "tenancy_app", "--role", &second, "--role", "tenancy_app", "--report", &report],
    );
    until_asleep(&db);
    db.sql(&format!("SELECT pg_terminate_backend(pid) {ASLEEP}"));
    let output = child.wait_with_output().expect("an end");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(7), "{stdout}\n{stderr}");
    assert!(stderr.contains("error: the verification ended early"), "{stderr}");
    assert!(stderr.contains("terminating connection"), "{stderr}");
    assert!(stdout.contains("FAILED") && stdout.contains("not reached"), "{stdout}");
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(&file).expect("a report")).expect("JSON");
    assert_eq!(report["summary"]["passed"], false);
    let verdicts: BTreeSet<(&str, &str)> = report["tables"]
        .as_array()
        .expect("verdicts")
        .iter()
        .map(|table| {
            (table["object"].as_str().expect("a name"), table["verdict"].as_str().expect("a verdict"))
        })
        .collect();
    let tables = ["public.events", "public.tickets"];
    let expected = tables.iter().flat_map(|table| [(*table, "proven"), (*table, "not_proven")]).collect();
    assert_eq!(verdicts, expected, "the first role was done: {report:#}");
    db.sql(&format!("DROP ROLE {second}"));
}

#[tokio::test]
async fn an_interrupted_run_leaves_nothing_behind() {
    let db = dawdling("tenancy_app").await;
    let before = traces(&db);
    let roles = || db.sql("SELECT count(*) FROM pg_roles WHERE rolname ~ 'tenancy_|probe'");
    let known = roles();
    let child = start(&db, &[]);
    until_asleep(&db);
    run(std::process::Command::new("kill").args(["-INT", &child.id().to_string()])).expect(0);
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    // The trigger would go on for a minute: the server looks after its client meanwhile.
    db.quiet().await;
    assert_eq!(traces(&db), before);
    assert_eq!(roles(), known);
}

#[tokio::test]
async fn a_protected_profile_is_not_probed_unasked() {
    let db = Database::migrated().await;
    for sql in [HELPER, SCHEMA] {
        common::execute(&db.options, sql).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tenantctl.yaml");
    let config = serde_json::json!({"profiles": {"prod": {"url": db.url(), "protected": true}, "test": {"url": db.url()}}});
    std::fs::write(&file, config.to_string()).expect("a file");
    let verify = |profile: &str, more: &[&str]| {
        let mut command = tenantctl();
        command.arg("--config").arg(&file).args(["--profile", profile, "rls", "verify", "-o", "json"]);
        run(command.args(more))
    };
    let refused = verify("prod", &[]).expect(10);
    assert_eq!(refused.stdout, "");
    let error = refused.error();
    assert!(error["message"].as_str().is_some_and(|what| what.contains("protected")), "{error}");
    let hint = error["hint"].as_str().expect("a hint");
    assert!(hint.contains("--allow-probes") && hint.contains("--no-probes"), "{error}");
    let read = verify("prod", &["--no-probes"]).expect(0).json();
    assert_eq!(read["summary"]["probes"], 0);
    assert_eq!(read["not_proven"].as_array().map(Vec::len), Some(2), "{read}");
    for (profile, more) in [("prod", &["--allow-probes"][..]), ("test", &[])] {
        let report = verify(profile, more).expect(0).json();
        assert!(
            report["summary"]["probes"].as_u64() > Some(0) && report["not_proven"] == serde_json::json!([])
        );
    }
    verify("prod", &["--allow-probes", "--no-probes"]).expect(2);
}

#[tokio::test]
async fn a_defect_has_one_name_with_probes_and_without() {
    let db = Database::migrated().await;
    let defects = "DROP POLICY tenant_floor ON public.events; DROP POLICY tenant_floor ON public.tickets;
         CREATE POLICY a ON public.events FOR SELECT USING (true); CREATE POLICY b ON public.events FOR SELECT USING (1 = 1);
         CREATE POLICY c ON public.tickets USING (current_setting('app.root', true) = 'on');
         CREATE VIEW public.v AS SELECT * FROM public.tickets; GRANT SELECT ON public.v TO tenancy_app;
         GRANT TRUNCATE ON public.tickets TO tenancy_app";
    for sql in [HELPER, SCHEMA, defects] {
        common::execute(&db.options, sql).await;
    }
    let probed = verify(&db.options, &Options::default()).await.expect("a report");
    let read = verify(&db.options, &Options { probes: false, ..Options::default() }).await.expect("a report");
    let names = |report: &tenancy::rls::Report| -> BTreeSet<(String, String)> {
        let findings = report.findings.iter();
        findings.map(|finding| (finding.check.clone(), finding.fingerprint.clone())).collect()
    };
    assert!(names(&read).is_subset(&names(&probed)), "{read:#?}\n{probed:#?}");
    for (check, object) in [
        ("permissive-leak", "public.events"),
        ("spoofable-bypass", "public.tickets"),
        ("view-definer", "public.v"),
        ("grant-truncate", "public.tickets"),
    ] {
        let finding = assert_found(&probed, Error, check, object);
        assert_eq!(finding.source, Source::Probe, "{finding:#?}");
        assert_eq!(find(&read, check, object).map(|finding| finding.source), Some(Source::Catalog));
    }
    // Each of two policies is to be mended.
    let fixes: BTreeSet<&str> = probed
        .findings
        .iter()
        .filter(|finding| finding.check == "permissive-leak")
        .map(|finding| finding.fix.as_str())
        .collect();
    assert!(fixes.contains("DROP POLICY a ON public.events;"), "{fixes:?}");
    assert!(fixes.contains("DROP POLICY b ON public.events;"), "{fixes:?}");
}
