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
