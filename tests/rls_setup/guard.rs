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
    assert!(printed.contains("EXECUTE FUNCTION tenancy_guard.refuse_new_tables();"), "{printed}");
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
    assert_eq!(db.sql("SELECT to_regnamespace('tenancy_guard') IS NULL"), "t");
}

/// Makes every function of the owner role's stop whatever calls it.
const CAPTURE: &str = r#"
    CREATE FUNCTION tenancy.captured() RETURNS void LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'captured as %', current_user; END $$;
    DO $do$
    DECLARE f record;
    BEGIN
        FOR f IN SELECT p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
                  WHERE p.pronamespace = 'tenancy'::regnamespace AND l.lanname = 'plpgsql' AND p.proname <> 'captured' LOOP
            EXECUTE regexp_replace(pg_get_functiondef(f.oid), E'\nBEGIN\n', E'\nBEGIN\n PERFORM tenancy.captured();\n');
        END LOOP;
    END $do$;
    CREATE OR REPLACE FUNCTION tenancy.lock_isolation() RETURNS void LANGUAGE sql AS 'SELECT tenancy.captured()';
    CREATE FUNCTION public.starts_with(text, text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN PERFORM tenancy.captured(); RETURN true; END $$;
    CREATE FUNCTION public.array_position(text[], text) RETURNS int LANGUAGE plpgsql AS $$
    BEGIN PERFORM tenancy.captured(); RETURN 1; END $$;
    CREATE FUNCTION public.differs(name, text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN PERFORM tenancy.captured(); RETURN true; END $$;
    CREATE OPERATOR public.!~ (FUNCTION = public.differs, LEFTARG = name, RIGHTARG = text);"#;

#[tokio::test]
async fn the_owner_role_gains_nothing_from_a_superusers_tables() {
    let db = Database::migrated().await;
    let member = format!("{} Member", db.name);
    db.sql(&format!(
        "CREATE ROLE \"{member}\" IN ROLE tenancy_owner; GRANT CREATE ON SCHEMA public TO tenancy_owner"
    ));
    db.tenantctl(&["rls", "setup", "--on-new-table", "protect"]).expect(0);
    assert_eq!(
        db.sql("SELECT count(*) FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.pronamespace = 'tenancy_guard'::regnamespace AND NOT r.rolsuper"),
        "0"
    );
    for attempt in [
        "CREATE OR REPLACE FUNCTION tenancy_guard.protect_new_tables() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "ALTER FUNCTION tenancy_guard.protect_new_tables() RESET ALL",
        "DROP FUNCTION tenancy_guard.lock_isolation()",
        "CREATE FUNCTION tenancy_guard.rights(text, oid) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER SCHEMA tenancy_guard RENAME TO mine",
        "DROP SCHEMA tenancy_guard CASCADE",
        "DROP EVENT TRIGGER tenancy_new_tables",
        "SELECT tenancy.install_guard('{tenant_id}')",
    ] {
        for role in [&member, "tenancy_owner"] {
            let refused = create_as(&db, role, attempt).expect(1).stderr;
            assert!(refused.contains("42501"), "{attempt}: {refused}");
        }
    }

    create_as(&db, "tenancy_owner", CAPTURE).expect(0);
    let control = db.psql(&["--command", "SELECT tenancy.protect('tenancy.plans')"]).expect(1).stderr;
    assert!(control.contains("captured as"), "what is captured is the owner role's: {control}");
    db.sql("SET search_path = public, pg_catalog; CREATE TABLE public.first (id serial, tenant_id uuid)");
    create_as(&db, &member, "CREATE TABLE public.second (id int, tenant_id text)").expect(0);
    create_as(&db, "tenancy_owner", "CREATE TABLE public.third AS SELECT 1 AS tenant_id").expect(0);
    assert_eq!(
        db.sql("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relforcerowsecurity AND relnamespace = 'public'::regnamespace"),
        "first second third"
    );

    // What would fire at the end of the transaction, as whoever it is then, is seen before it is set off.
    let trigger = "CREATE FUNCTION tenancy.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM tenancy.captured(); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON tenancy.protected_tables DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION tenancy.fire()";
    let check = "CREATE FUNCTION tenancy.valid(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
        ALTER TABLE tenancy.isolation_changes ADD CONSTRAINT odd CHECK (tenancy.valid(kind))";
    let view = "ALTER TABLE tenancy.tenants RENAME TO elsewhere; CREATE VIEW tenancy.tenants AS SELECT * FROM tenancy.elsewhere";
    for (planted, removed) in [
        (trigger, "DROP TRIGGER late ON tenancy.protected_tables"),
        (check, "ALTER TABLE tenancy.isolation_changes DROP CONSTRAINT odd"),
        (view, "DROP VIEW tenancy.tenants; ALTER TABLE tenancy.elsewhere RENAME TO tenants"),
    ] {
        create_as(&db, "tenancy_owner", planted).expect(0);
        let refused = db
            .psql(&["--set=VERBOSITY=verbose", "--command", "CREATE TABLE fourth (tenant_id uuid)"])
            .expect(1)
            .stderr;
        assert!(refused.contains("TN010") && refused.contains("was changed since it was made"), "{refused}");
        create_as(&db, "tenancy_owner", removed).expect(0);
    }
    // Rolled back is rolled back, and temporary tables are nobody's business.
    db.sql("BEGIN; CREATE TABLE fourth (tenant_id uuid); ROLLBACK");
    db.sql("CREATE TEMPORARY TABLE fifth (tenant_id uuid)");
    assert_eq!(db.sql("SELECT count(*) FROM tenancy.protected_tables"), "3");
}

#[tokio::test]
async fn rights_that_are_not_the_creators_are_not_given() {
    let db = Database::migrated().await;
    let member = format!("{} Member", db.name);
    db.tenantctl(&["rls", "setup", "--on-new-table", "protect"]).expect(0);
    db.sql(&format!(
        "CREATE ROLE \"{member}\" IN ROLE tenancy_owner; CREATE SCHEMA \"s 1\"; CREATE SEQUENCE \"s 1\".\"Theirs\";
         GRANT USAGE, CREATE ON SCHEMA \"s 1\" TO \"{member}\"; GRANT USAGE ON SEQUENCE \"s 1\".\"Theirs\" TO \"{member}\""
    ));
    let told = create_as(
        &db,
        &member,
        "CREATE TABLE \"s 1\".t (id serial, n int DEFAULT nextval('\"s 1\".\"Theirs\"'), tenant_id uuid)",
    )
    .expect(0)
    .stderr;
    assert!(told.contains("may not: GRANT USAGE ON SCHEMA \"s 1\" TO tenancy_app"), "{told}");
    assert_eq!(
        db.sql("SELECT has_schema_privilege('tenancy_app', 's 1', 'USAGE'), has_sequence_privilege('tenancy_app', '\"s 1\".\"Theirs\"', 'USAGE'),
                       has_sequence_privilege('tenancy_app', '\"s 1\".t_id_seq', 'USAGE'), has_table_privilege('tenancy_app', '\"s 1\".t', 'INSERT')"),
        "f|f|t|t"
    );
}

#[tokio::test]
async fn a_schema_of_the_guards_name_is_not_taken_over() {
    let db = Database::migrated().await;
    let role = format!("{} Squatter", db.name);
    db.sql(&format!("CREATE ROLE \"{role}\"; CREATE SCHEMA tenancy_guard AUTHORIZATION \"{role}\""));
    let refused = db.tenantctl(&["rls", "setup", "--on-new-table", "refuse"]).expect(10).stderr;
    assert!(refused.contains("tenancy_guard belongs to"), "{refused}");
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

#[tokio::test]
async fn the_copies_call_each_other_and_nothing_else() {
    let db = Database::migrated().await;
    db.tenantctl(&["rls", "setup", "--on-new-table", "protect"]).expect(0);
    // What is left with a parenthesis behind it stands in hints.
    assert_eq!(
        db.sql(
            "SELECT DISTINCT m[1] FROM pg_proc p, regexp_matches(p.prosrc, '\\mtenancy\\.(\\w+)\\(', 'g') m
              WHERE p.pronamespace = 'tenancy_guard'::regnamespace ORDER BY 1"
        ),
        "guard_new_tables\nprotect\nshare"
    );
}
