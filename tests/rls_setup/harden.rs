//! Hardening closes what policies do not see, leaves nothing for `rls verify` to say, and comes off again.

use super::*;
use crate::common::Database;

const SCHEMA: &str = r#"
    CREATE SCHEMA "s 2";
    GRANT CREATE ON SCHEMA "s 2" TO PUBLIC;
    CREATE TABLE par (id int PRIMARY KEY, tenant_id uuid NOT NULL, x text, "Co de" text UNIQUE,
                      up int REFERENCES par ON DELETE SET NULL);
    CREATE TABLE kid (id int PRIMARY KEY, tenant_id uuid NOT NULL, x text, par int REFERENCES par ON DELETE CASCADE,
                      code text, CONSTRAINT "by Code" FOREIGN KEY (code) REFERENCES par ("Co de") ON DELETE SET NULL
                      DEFERRABLE INITIALLY DEFERRED);
    CREATE VIEW plain AS SELECT * FROM kid;
    CREATE VIEW "s 2"."of Plain" WITH (security_barrier) AS SELECT * FROM plain;
    CREATE VIEW apart AS SELECT 1 AS one;
    ALTER DEFAULT PRIVILEGES IN SCHEMA "s 2" GRANT SELECT ON TABLES TO tenancy_app, PUBLIC;"#;

fn hardened() -> Setup {
    Setup { harden: true, ..Setup::default() }
}

/// Two tenants with a row in each table.
async fn fill(pool: &PgPool) {
    rows(pool, "par", "tenant_id", A, B).await;
    rows(pool, "kid", "tenant_id", A, B).await;
}

#[tokio::test]
async fn references_carry_the_tenant() {
    let pool = platform(SCHEMA).await;
    fill(&pool).await;
    let plain = set_up_all(&pool).await;
    let kid = plain.tables.iter().find(|table| table.table == "public.kid").unwrap();
    assert!(
        kid.notes.contains(
            &"reference kid_par_fkey does not carry the tenant: with --harden it becomes FOREIGN KEY (tenant_id, par) \
              REFERENCES public.par (tenant_id, id)"
                .to_owned()
        ),
        "{:?}",
        kid.notes
    );
    // Rows 1 and 2 are one tenant's, 3 to 5 the other's.
    assert_eq!(app(&pool, A, "UPDATE kid SET par = 5").await, Ok(2), "the reference reaches across");

    set_up(&pool, &hardened()).await.unwrap();
    assert_eq!(app(&pool, A, "UPDATE kid SET par = 1").await, Ok(2));
    assert_eq!(app(&pool, A, "UPDATE kid SET par = 5").await, Err("23503".into()));
    assert_eq!(app(&pool, A, "UPDATE par SET up = 5").await, Err("23503".into()));
    // The actions are as they were, and never touch the tenant.
    exec(&pool, "UPDATE par SET up = 2 WHERE id = 1; UPDATE kid SET par = 2 WHERE id = 1").await;
    assert_eq!(app(&pool, A, "DELETE FROM par WHERE id = 2").await, Ok(1));
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql("DELETE FROM par WHERE id = 2").execute(&mut *tx).await.unwrap();
    let left: (i64, Option<i32>) =
        sqlx::query_as("SELECT (SELECT count(*) FROM kid), (SELECT up FROM par WHERE id = 1)")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    assert_eq!(left, (4, None));
    tx.rollback().await.unwrap();
    let deferred: bool =
        sqlx::query_scalar("SELECT condeferred FROM pg_constraint WHERE conname = 'by Code'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(deferred);

    assert!(!set_up(&pool, &hardened()).await.unwrap().changed(), "a second run has nothing to do");
}

#[tokio::test]
async fn rows_that_cross_stand_in_the_way() {
    let pool = platform(SCHEMA).await;
    fill(&pool).await;
    exec(&pool, "UPDATE kid SET par = 5 WHERE id = 1").await;
    let done = set_up(&pool, &hardened()).await.unwrap();
    let kid = done.tables.iter().find(|table| table.table == "public.kid").unwrap();
    let note = kid.notes.iter().find(|note| note.contains("kid_par_fkey")).unwrap();
    let query = note.split(" (").nth(1).unwrap().trim_end_matches(')');
    assert!(note.contains("1 row points at a row of another tenant"), "{note}");
    let found: Vec<i32> =
        sqlx::query_scalar(AssertSqlSafe(query.replace("c.*", "c.id"))).fetch_all(&pool).await.unwrap();
    assert_eq!(found, [1]);
    // Mended, it goes through.
    exec(&pool, "UPDATE kid SET par = NULL WHERE id = 1").await;
    set_up(&pool, &hardened()).await.unwrap();
    assert_eq!(app(&pool, A, "UPDATE kid SET par = 5").await, Err("23503".into()));
}

#[tokio::test]
async fn nothing_is_left_open() {
    let pool = platform(SCHEMA).await;
    fill(&pool).await;
    let role = sqlx::query_scalar::<_, String>("SELECT current_database() || ' Rep''ort'")
        .fetch_one(&pool)
        .await
        .unwrap();
    exec(&pool, format!("CREATE ROLE \"{role}\"; GRANT TRUNCATE, TRIGGER, SELECT ON par TO \"{role}\""))
        .await;
    set_up(&pool, &hardened()).await.unwrap();
    // Whoever updates it: a row stays with its tenant.
    let moved =
        try_as(&pool, "postgres", None, &format!("UPDATE kid SET tenant_id = '{B}' WHERE id = 1")).await;
    assert_eq!(moved, Err("TN010".into()));
    assert_eq!(try_as(&pool, "postgres", None, "UPDATE kid SET tenant_id = tenant_id, x = 'y'").await, Ok(5));

    let facts: Vec<bool> = sqlx::query_scalar(
        "SELECT x FROM (VALUES (1, has_table_privilege($1, 'par', 'SELECT')), (2, has_table_privilege($1, 'par', 'TRUNCATE, TRIGGER')),
                (3, has_database_privilege('tenancy_app', current_database(), 'TEMPORARY')),
                (4, has_schema_privilege('tenancy_app', 's 2', 'CREATE'))) v (n, x) ORDER BY n",
    )
    .bind(&role)
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(facts, [true, false, false, false]);
    let options: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s %s', oid::regclass, reloptions) FROM pg_class WHERE relkind = 'v' AND relnamespace IN ('public'::regnamespace, '\"s 2\"'::regnamespace) ORDER BY 1",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!(
        options,
        [
            "\"s 2\".\"of Plain\" {security_barrier=true,security_invoker=true}",
            "apart ",
            "plain {security_invoker=true}"
        ]
    );
    exec(&pool, "CREATE TABLE \"s 2\".later (id int)").await;
    assert_eq!(app(&pool, A, "SELECT FROM \"s 2\".later").await, denied());
}

#[tokio::test]
async fn verify_has_nothing_to_say_of_it() {
    let db = Database::with_acme("free").await;
    db.sql(SCHEMA);
    db.tenantctl(&["rls", "setup", "--harden", "--on-new-table", "protect"]).expect(0);
    let login = db.app_login();
    let report = db.tenantctl(&["rls", "verify", "--role", &login, "-o", "json"]).expect(0).json();
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["severity"] == "note"), "{report}");
    assert_eq!(report["not_proven"], serde_json::json!([]), "{report}");
}

#[tokio::test]
async fn a_dry_run_and_a_print_change_nothing() {
    let db = Database::migrated().await;
    db.sql(SCHEMA);
    let state = || {
        db.sql(
            "SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
             UNION ALL SELECT tgname FROM pg_trigger UNION ALL SELECT reloptions::text FROM pg_class WHERE relkind = 'v'
             UNION ALL SELECT datacl::text FROM pg_database WHERE datname = current_database()
             UNION ALL SELECT defaclacl::text FROM pg_default_acl UNION ALL SELECT nspacl::text FROM pg_namespace
             UNION ALL SELECT relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relacl IS NOT NULL
             ORDER BY 1",
        )
    };
    let before = state();
    db.tenantctl(&["rls", "setup", "--harden", "--dry-run"]).expect(0);
    let script = db.tenantctl(&["rls", "setup", "--harden", "--print"]).expect(0).stdout;
    assert_eq!(state(), before);
    let file = std::env::temp_dir().join(format!("tenancy-harden-{}.sql", std::process::id()));
    std::fs::write(&file, &script).unwrap();
    db.psql(&["--file", file.to_str().unwrap()]).expect(0);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(
        db.json(&["rls", "setup", "--harden"])["tables"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|t| t["outcome"] != "unchanged")
            .count(),
        0
    );
}

#[tokio::test]
async fn it_comes_off_again() {
    let db = Database::migrated().await;
    db.sql(SCHEMA);
    let state = || {
        db.sql(
            "SELECT conrelid::regclass || conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
             UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
             UNION ALL SELECT relname || coalesce(reloptions::text, '') FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
             UNION ALL SELECT x::text FROM pg_database, unnest(coalesce(datacl, acldefault('d', datdba))) x WHERE datname = current_database()
             UNION ALL SELECT x::text FROM pg_default_acl, unnest(defaclacl) x
             UNION ALL SELECT nspname || x FROM pg_namespace, unnest(nspacl) x WHERE nspname IN ('public', 's 2')
             UNION ALL SELECT relation::text || kind FROM tenancy.isolation_changes ORDER BY 1",
        )
    };
    let before = state();
    db.tenantctl(&["rls", "setup", "--harden"]).expect(0);
    // One table first: what others refer to is as it was before.
    db.tenantctl(&["rls", "teardown", "--table", "par", "--yes"]).expect(0);
    assert_eq!(
        db.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'kid_par_fkey'"),
        "FOREIGN KEY (par) REFERENCES par(id) ON DELETE CASCADE"
    );
    assert_eq!(db.sql("SELECT relrowsecurity FROM pg_class WHERE relname = 'kid'"), "t");
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_eq!(state(), before);
}
