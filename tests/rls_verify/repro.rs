//! `--repro`: a script for each leak shows it in psql, and shows nothing once it is mended.

use std::path::{Path, PathBuf};

use super::{HELPER, SCHEMA};
use crate::common::{self, Database, Run, run};

const LEAKS: &str = "DROP POLICY tenant_floor ON public.events;
                     CREATE POLICY \"every\nthing\" ON public.events FOR SELECT USING (true);
                     DROP POLICY tenant_floor ON public.tickets;
                     CREATE POLICY anything ON public.tickets FOR DELETE USING (true)";
const MENDED: &str = "DROP POLICY \"every\nthing\" ON public.events; DROP POLICY anything ON public.tickets";

/// Runs a script as anybody would.
fn psql(db: &Database, script: &Path) -> Run {
    let mut command = std::process::Command::new("psql");
    command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--dbname", &db.url(), "--file"]);
    run(command.arg(script)).expect(0)
}

fn script(folder: &Path, check: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut found = entries.map(|entry| entry.expect("an entry").path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{check}-")))
    });
    found.next().unwrap_or_else(|| panic!("no script of {check}"))
}

#[tokio::test]
async fn a_script_shows_the_leak_until_it_is_mended() {
    let db = Database::migrated().await;
    for statements in [HELPER, SCHEMA, LEAKS] {
        common::execute(&db.options, statements).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("new/folder");
    let argument = target.display().to_string();
    let verified = db.tenantctl(&["rls", "verify", "--repro", &argument]).expect(5);
    let [read, delete] = [script(&target, "permissive-leak"), script(&target, "delete-leak")];
    assert!(verified.stderr.contains(&format!("wrote {}\n", read.display())), "{verified:?}");
    let before = db.dump();

    // The rows of tenant B, whose key is the last one that the script names.
    let text = std::fs::read_to_string(&read).expect("a script");
    let (_, key) = text.rsplit_once("IN ('").expect("a condition");
    let key = key.split('\'').next().expect("a key");
    let rows = |run: &Run| run.stdout.lines().filter(|line| line.starts_with(&format!("{key}|"))).count();
    let shown = psql(&db, &read);
    assert_eq!((rows(&shown), shown.stderr.as_str()), (1, ""), "{shown:?}");
    let shown = psql(&db, &delete);
    assert!(shown.stdout.contains("\nDELETE 2\n") && shown.stderr.is_empty(), "{shown:?}");
    let listed = |run: &Run| run.stdout.lines().filter(|line| line.starts_with("tickets|")).count();
    assert_eq!(listed(&shown), 1, "there before, and gone after: {shown:?}");

    common::execute(&db.options, MENDED).await;
    let shown = psql(&db, &read);
    assert_eq!((rows(&shown), shown.stderr.as_str()), (0, ""), "{shown:?}");
    let shown = psql(&db, &delete);
    assert!(shown.stdout.contains("\nDELETE 1\n"), "{shown:?}");
    assert_eq!(listed(&shown), 2, "there before and after: {shown:?}");
    assert_eq!(db.sql("SELECT count(*) FROM public.events"), "0");
    assert_eq!(db.dump(), before, "nothing of it stays");
}

const DOORS: &str = "
    CREATE VIEW public.\"All of them\" AS SELECT * FROM public.tickets; GRANT SELECT ON public.\"All of them\" TO tenancy_app;
    CREATE VIEW public.wiped AS SELECT id FROM public.tickets; GRANT DELETE ON public.wiped TO tenancy_app;
    CREATE MATERIALIZED VIEW public.kept AS SELECT title FROM public.events; GRANT SELECT ON public.kept TO tenancy_app;
    CREATE FUNCTION public.everything() RETURNS SETOF public.tickets LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM public.tickets';
    CREATE FUNCTION public.wipe() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM public.tickets';";
const SHUT: &str = "
    ALTER VIEW public.\"All of them\" SET (security_invoker = true); REVOKE DELETE ON public.wiped FROM tenancy_app;
    REVOKE SELECT ON public.kept FROM tenancy_app; REVOKE EXECUTE ON FUNCTION public.everything() FROM PUBLIC;
    ALTER FUNCTION public.wipe() SECURITY INVOKER;";
const REAL: &str = "INSERT INTO tenancy.tenants (slug, name, plan, contact_email)
        SELECT 'real', 'Real', min(key), 'a@b.example' FROM tenancy.plans;
    INSERT INTO public.countries VALUES ('DE', 'Germany');
    INSERT INTO public.events SELECT id, gen_random_uuid(), 'seen by all', 'DE', '2026-01-01', '2026-01-02' FROM tenancy.tenants";

#[tokio::test]
async fn views_and_functions_have_scripts_as_well() {
    let db = Database::migrated().await;
    for statements in [HELPER, SCHEMA, REAL, DOORS] {
        common::execute(&db.options, statements).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().display().to_string();
    db.tenantctl(&["rls", "verify", "--repro", &target]).expect(5);
    let report = db.tenantctl(&["rls", "verify", "-o", "json"]).expect(5).json();
    let before = db.dump();
    let file = |check: &str, object: &str| {
        let findings = report["findings"].as_array().expect("findings");
        let finding = findings.iter().find(|one| one["check"] == check && one["object"] == object);
        let fingerprint = finding.and_then(|one| one["fingerprint"].as_str()).expect("a finding").to_owned();
        folder.path().join(format!("{check}-{fingerprint}.sql"))
    };
    let read = file("view-definer", "public.\"All of them\"");
    let wiped = file("view-definer", "public.wiped");
    let kept = file("materialized-view", "public.kept");
    let called = file("function-definer", "public.everything()");
    let wipe = file("function-definer", "public.wipe()");

    // Tenant A's key is in the context; what a script shows of any other key is the leak.
    let foreign = |path: &Path, run: &Run| {
        let text = std::fs::read_to_string(path).expect("a script");
        let (_, context) = text.rsplit_once("'app.current_tenant_id', '").expect("a context");
        let own = context.split('\'').next().expect("a key").to_owned();
        let rows = run.stdout.lines().filter(|line| line.contains('|') && !line.contains(&own));
        rows.filter(|line| line.split('|').count() >= 3).count()
    };
    for path in [&read, &called] {
        let shown = psql(&db, path);
        assert_eq!((foreign(path, &shown), shown.stderr.as_str()), (1, ""), "{shown:?}");
    }
    let shown = psql(&db, &kept);
    assert!(shown.stdout.contains("\nseen by all\n") && shown.stderr.is_empty(), "{shown:?}");
    let listed = |run: &Run| run.stdout.lines().filter(|line| line.starts_with("tickets|")).count();
    for path in [&wiped, &wipe] {
        let shown = psql(&db, path);
        assert_eq!(
            (listed(&shown), shown.stderr.as_str()),
            (1, ""),
            "there before, and gone after: {shown:?}"
        );
    }
    assert_eq!(db.dump(), before, "nothing of it stays");

    common::execute(&db.options, SHUT).await;
    let shown = psql(&db, &read);
    assert_eq!((foreign(&read, &shown), shown.stderr.as_str()), (0, ""), "{shown:?}");
    for path in [&wiped, &kept, &called] {
        let shown = psql(&db, path);
        assert!(shown.stderr.contains("permission denied"), "{shown:?}");
    }
    let shown = psql(&db, &wipe);
    assert_eq!((listed(&shown), shown.stderr.as_str()), (2, ""), "there before and after: {shown:?}");
}
