//! What a list of meters says to type next, typed.

use crate::common::{Database, Run, run};

/// The command between backquotes in the only note of a list, run by a shell.
fn follow(db: &Database) -> (String, Run) {
    let listed = db.tenantctl(&["usage", "meter", "list"]).expect(0);
    let command = listed.stderr.split('`').nth(1).unwrap_or_else(|| panic!("{listed:?}")).to_owned();
    let mut shell = std::process::Command::new("sh");
    let program = command.replacen("tenantctl", env!("CARGO_BIN_EXE_tenantctl"), 1);
    shell.env_clear().env("TENANTCTL_URL", db.url()).env("HOME", "/nonexistent").args(["-c", &program]);
    (command, run(&mut shell))
}

#[tokio::test]
async fn a_meter_is_attached_again_as_it_was() {
    let db = Database::with_acme("enterprise").await;
    db.sql(
        r#"CREATE TABLE public.files (tenant_id uuid, size bigint);
           CREATE TABLE public."It's $HOME" ("ten ant" uuid, "-si'ze""" int)"#,
    );
    db.tenantctl(&["usage", "meter", "attach", "storage", "--table=files", "--sum=size"]).expect(0);
    db.sql(
        "ALTER TABLE public.files DISABLE TRIGGER tenancy_meter_insert;
         INSERT INTO public.files SELECT id, 70 FROM tenancy.tenants",
    );
    let (command, run) = follow(&db);
    assert_eq!(
        command,
        "tenantctl usage meter attach storage --table=public.files --tenant-column=tenant_id --sum=size"
    );
    run.expect(0);
    // The sum, and not the one row that there is.
    assert_eq!(
        db.sql("SELECT sum_column, used FROM tenancy.usage_meters, tenancy.usage_counters"),
        "size|70"
    );
    assert_eq!(db.tenantctl(&["usage", "meter", "list"]).expect(0).stderr, "");
    db.tenantctl(&["usage", "meter", "detach", "storage"]).expect(0);

    // Names that a shell would take for something else.
    let table = r#"--table="It's $HOME""#;
    let odd = [table, "--tenant-column=ten ant", r#"--sum=-si'ze""#];
    db.tenantctl(&[&["usage", "meter", "attach", "storage"], &odd[..]].concat()).expect(0);
    let before = "SELECT tenant_column, sum_column, table_name FROM tenancy.usage_meters";
    let known = db.sql(before);
    db.sql(r#"ALTER TABLE public."It's $HOME" DISABLE TRIGGER tenancy_meter_delete"#);
    follow(&db).1.expect(0);
    assert_eq!(db.sql(before), known);
    assert_eq!(db.tenantctl(&["usage", "meter", "list"]).expect(0).stderr, "");
    db.sql(r#"DROP TABLE public."It's $HOME""#);
    follow(&db).1.expect(0);
    assert_eq!(db.sql("SELECT count(*) FROM tenancy.usage_meters"), "0");
}
