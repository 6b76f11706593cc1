//! Tables that are created after setup: protected, refused or let be.

use super::failure;
use super::*;
use crate::common::Database;

fn create_as(db: &Database, role: &str, sql: &str) -> crate::common::Run {
    db.psql(&["--set=VERBOSITY=verbose", &format!("--command=SET ROLE \"{role}\"; {sql}")])
}

#[tokio::test]
async fn new_tables_are_protected() {
    let db = Database::migrated().await;
    let first = db.json(&[
        "rls",
        "setup",
        "--on-new-table",
        "protect",
        "--tenant-column",
        "tenant_id",
        "--tenant-column",
        "Or\"g",
    ]);
    assert_eq!(first["tables"][0]["kind"], "database");
    assert_eq!(first["tables"][0]["actions"], serde_json::json!(["new_tables"]));
    db.sql(
        r#"CREATE TABLE plain (id int, tenant_id uuid);
           CREATE TABLE made AS SELECT 1 AS id, 'x' AS tenant_id;
           SELECT 1::bigint AS "Or""g" INTO "se lected";
           CREATE SCHEMA other CREATE TABLE inside (tenant_id text);
           CREATE TABLE parts (id int, tenant_id uuid) PARTITION BY LIST (id);
           CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
           CREATE TABLE kin () INHERITS (plain);
           CREATE TABLE without (id int);
           CREATE TEMPORARY TABLE passing (tenant_id uuid)"#,
    );
    assert_eq!(
        db.sql("SELECT c.relname FROM tenancy.protected_tables r JOIN pg_class c ON c.oid = r.relation WHERE c.relforcerowsecurity ORDER BY 1"),
        "inside\nkin\nmade\nparts\nparts_1\nplain\nse lected"
    );
    assert_eq!(db.sql("SELECT count(*) FROM pg_policies WHERE tablename = 'made'"), "2");

    let role = format!("{} Builder", db.name);
    db.sql(&format!("CREATE ROLE \"{role}\"; GRANT CREATE ON SCHEMA public TO \"{role}\""));
    create_as(&db, &role, "CREATE TABLE theirs (id int); CREATE TEMPORARY TABLE t (tenant_id int)").expect(0);
    let refused = create_as(&db, &role, "CREATE TABLE stray (tenant_id uuid)").expect(1).stderr;
    assert!(refused.contains("TN010") && refused.contains("GRANT tenancy_owner TO"), "{refused}");
    assert_eq!(db.sql("SELECT to_regclass('stray') IS NULL"), "t");
    // A member may.
    db.sql(&format!("GRANT tenancy_owner TO \"{role}\""));
    create_as(&db, &role, "CREATE TABLE stray (tenant_id uuid)").expect(0);
    assert_eq!(db.sql("SELECT relrowsecurity FROM pg_class WHERE relname = 'stray'"), "t");

    db.tenantctl(&["rls", "setup", "--on-new-table", "off"]).expect(0);
    db.sql("CREATE TABLE later (tenant_id uuid)");
    assert_eq!(db.sql("SELECT relrowsecurity FROM pg_class WHERE relname = 'later'"), "f");
}

#[tokio::test]
async fn new_tables_are_refused_unless_the_migration_knows() {
    let db = Database::migrated().await;
    db.tenantctl(&["rls", "setup", "--on-new-table", "refuse", "--dry-run"]).expect(0);
    let printed = db.tenantctl(&["rls", "setup", "--on-new-table", "refuse", "--print"]).expect(0).stdout;
    assert!(printed.contains("EXECUTE FUNCTION tenancy.refuse_new_tables();"), "{printed}");
    assert_eq!(db.sql("SELECT count(*) FROM pg_event_trigger"), "0");

    db.tenantctl(&["rls", "setup", "--on-new-table", "refuse"]).expect(0);
    let again = db.json(&["rls", "setup", "--on-new-table", "refuse"]);
    assert_eq!(again["tables"], serde_json::json!([]), "a second run has nothing to do");
    for sql in [
        "CREATE TABLE a (tenant_id uuid)",
        "CREATE TABLE a AS SELECT 1 AS tenant_id",
        "SELECT 1 AS tenant_id INTO a",
        "CREATE SCHEMA s CREATE TABLE a (tenant_id int)",
    ] {
        let refused = db.psql(&["--set=VERBOSITY=verbose", "--command", sql]).expect(1).stderr;
        assert!(refused.contains("TN010") && refused.contains("accept_new_tables"), "{refused}");
    }
    db.sql("CREATE TABLE b (id int); CREATE TEMPORARY TABLE c (tenant_id int)");
    db.sql("BEGIN; SET LOCAL tenancy.accept_new_tables = on; CREATE TABLE a (tenant_id uuid); SELECT tenancy.protect('a'); COMMIT");
    // To go over to the other mode takes one command, and a teardown takes the trigger along.
    db.tenantctl(&["rls", "setup", "--on-new-table", "protect"]).expect(0);
    db.sql("CREATE TABLE d (tenant_id uuid)");
    assert_eq!(db.sql("SELECT count(*) FROM tenancy.protected_tables"), "2");
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_eq!(db.sql("SELECT count(*) FROM pg_event_trigger"), "0");
}

#[tokio::test]
async fn an_event_trigger_takes_a_superuser() {
    let pool = platform("").await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL ROLE tenancy_owner").execute(&mut *tx).await.unwrap();
    let options = Setup { on_new_table: Some(NewTables::Protect), ..Setup::default() };
    let error = failure(setup(&mut tx, &options).await);
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(
        error.hint().unwrap().contains("as a superuser: SELECT tenancy.guard_new_tables('protect'"),
        "{error}"
    );
}

#[tokio::test]
async fn an_event_trigger_of_that_name_is_not_replaced() {
    let pool = platform(
        "CREATE FUNCTION mine() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER tenancy_new_tables ON ddl_command_end EXECUTE FUNCTION mine()",
    )
    .await;
    let options = Setup { on_new_table: Some(NewTables::Off), ..Setup::default() };
    assert_eq!(failure(set_up(&pool, &options).await).kind(), ErrorKind::Refused);
}
