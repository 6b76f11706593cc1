//! Who owns the tables, who migrates, and who may cross.

use super::*;

const EVENTS: &str = "CREATE TABLE events (id int PRIMARY KEY, tenant_id uuid, x text)";

/// Roles belong to the cluster: each test makes its own and removes them.
async fn role(pool: &PgPool, purpose: &str, flags: &str) -> String {
    let name = format!(
        "t_{purpose}_{}",
        pool.connect_options().get_database().unwrap().replace("tenancy_test_", "")
    );
    exec(pool, format!("CREATE ROLE {name} {flags}")).await;
    name
}

async fn drop_role(pool: &PgPool, name: &str) {
    exec(pool, format!("DROP OWNED BY {name}; DROP ROLE {name}")).await;
}

async fn owner_of(pool: &PgPool, table: &str) -> String {
    sqlx::query_scalar("SELECT relowner::regrole::text FROM pg_class WHERE oid = to_regclass($1)")
        .bind(table)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_bypass_is_a_role_and_goes_as_it_came() {
    let pool = platform("CREATE TABLE events (id serial PRIMARY KEY, tenant_id uuid, x text)").await;
    rows(&pool, "events", "tenant_id", A, B).await;
    set_up_all(&pool).await;
    let off = catalogs_of(&pool).await;
    assert_eq!(try_as(&pool, "tenancy_admin", None, "SELECT FROM events").await, denied());

    let on = Setup { admin_bypass: true, ..Setup::default() };
    assert!(set_up(&pool, &on).await.unwrap().changed());
    assert!(!set_up(&pool, &on).await.unwrap().changed());
    assert_eq!(try_as(&pool, "tenancy_admin", None, "SELECT FROM events").await, Ok(5));
    assert_eq!(try_as(&pool, "tenancy_admin", None, "UPDATE events SET x = 'y'").await, Ok(5));
    assert_eq!(try_as(&pool, "tenancy_admin", None, "TRUNCATE events").await, denied());
    let insert = format!("INSERT INTO events (id, tenant_id) VALUES (nextval('events_id_seq') + 99, '{B}')");
    assert_eq!(try_as(&pool, "tenancy_admin", None, &insert).await, Ok(1));
    assert_eq!(app(&pool, A, "SELECT FROM events").await, Ok(2), "the application is as confined as before");
    assert_eq!(
        app(&pool, A, "SET app.is_system_admin = true; SELECT FROM events").await,
        Ok(2),
        "no setting is a bypass"
    );

    // Without a word about the bypass a table keeps what it has, and a new one follows the others.
    exec(&pool, "CREATE TABLE later (id int, tenant_id uuid, x text)").await;
    exec(&pool, "SELECT tenancy.protect('events'), tenancy.protect('later')").await;
    assert!(!set_up(&pool, &on).await.unwrap().changed());
    exec(&pool, "DROP TABLE later").await;

    set_up_all(&pool).await;
    assert_eq!(catalogs_of(&pool).await, off);
}

#[tokio::test]
async fn the_bypass_policy_keeps_the_tenants_index() {
    let pool = platform(EVENTS).await;
    set_up(&pool, &Setup { admin_bypass: true, ..Setup::default() }).await.unwrap();
    exec(
        &pool,
        format!("INSERT INTO events SELECT g, CASE WHEN g % 100 = 0 THEN '{A}' ELSE '{B}' END::uuid FROM generate_series(1, 20000) g; ANALYZE events"),
    )
    .await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL enable_seqscan = on; SET LOCAL ROLE tenancy_app")
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query("SELECT set_config('app.current_tenant_id', $1, true)")
        .bind(A)
        .execute(&mut *tx)
        .await
        .unwrap();
    let plan: Vec<String> = sqlx::query_scalar("EXPLAIN (ANALYZE, TIMING OFF) SELECT count(*) FROM events")
        .fetch_all(&mut *tx)
        .await
        .unwrap();
    assert!(plan.iter().any(|line| line.contains("Index Cond: (tenant_id = ")), "{plan:#?}");
}

#[tokio::test]
async fn a_table_of_a_login_role_changes_hands() {
    let pool = platform(EVENTS).await;
    let login = role(&pool, "login", "LOGIN").await;
    let quiet = role(&pool, "quiet", "NOLOGIN").await;
    exec(
        &pool,
        format!(
            "ALTER TABLE events OWNER TO {login}; CREATE TABLE other (id serial, tenant_id uuid, x text);
                         ALTER TABLE other OWNER TO {quiet}"
        ),
    )
    .await;
    let outcome = set_up_all(&pool).await;
    assert_eq!(owner_of(&pool, "events").await, "tenancy_owner");
    assert_eq!(
        owner_of(&pool, "other").await,
        quiet,
        "a role that nobody logs in as and nothing lets past may own it"
    );
    let events = &outcome.tables[0];
    assert!(events.notes[0].contains(&format!("GRANT tenancy_owner TO {login}")), "{:?}", events.notes);
    assert!(!set_up_all(&pool).await.changed());

    exec(&pool, format!("GRANT {quiet} TO {login}; GRANT {login} TO tenancy_auditor")).await;
    assert!(!set_up_all(&pool).await.changed());
    drop_role(&pool, &quiet).await;
    drop_role(&pool, &login).await;
}

#[tokio::test]
async fn an_application_that_owns_its_tables_loses_them() {
    let pool = platform(EVENTS).await;
    rows(&pool, "events", "tenant_id", A, B).await;
    exec(&pool, "ALTER TABLE events OWNER TO tenancy_app").await;
    assert_eq!(app(&pool, A, "SELECT FROM events").await, Ok(5));
    set_up_all(&pool).await;
    assert_eq!(owner_of(&pool, "events").await, "tenancy_owner");
    assert_eq!(app(&pool, A, "SELECT FROM events").await, Ok(2));
    assert_eq!(app(&pool, A, "TRUNCATE events").await, denied());
    assert!(!set_up_all(&pool).await.changed());
}

#[tokio::test]
async fn a_role_that_can_become_the_owner_is_refused() {
    let pool = platform(EVENTS).await;
    let between = role(&pool, "between", "NOINHERIT").await;
    for bad in ["owner", "admin"] {
        let mut tx = pool.begin().await.unwrap();
        let grants = format!("GRANT tenancy_{bad} TO {between}; GRANT {between} TO tenancy_app");
        sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut *tx).await.unwrap();
        let error = failure(setup(&mut tx, &Setup::default()).await);
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(error.to_string(), format!("role tenancy_app can become tenancy_{bad}"));
    }
    drop_role(&pool, &between).await;
}

#[tokio::test]
async fn a_plain_migrator_protects_its_own_tables() {
    let pool = platform("").await;
    let migrator = role(&pool, "migrator", "LOGIN").await;
    exec(&pool, format!("GRANT tenancy_owner TO {migrator}; CREATE SCHEMA shop AUTHORIZATION {migrator}"))
        .await;
    let mut connection = pool.acquire().await.unwrap();
    let as_migrator = format!(
        "SET SESSION AUTHORIZATION {migrator};
         CREATE TABLE shop.orders (id serial PRIMARY KEY, tenant_id uuid, x text);
         CREATE TABLE shop.units (code text PRIMARY KEY);
         INSERT INTO shop.orders (tenant_id) VALUES ('{A}'), ('{B}');
         SELECT tenancy.protect('shop.orders');
         SELECT tenancy.share('shop.units');
         ALTER TABLE shop.orders ADD later int;
         CREATE INDEX ON shop.orders (later)"
    );
    sqlx::raw_sql(AssertSqlSafe(as_migrator)).execute(&mut *connection).await.unwrap();
    let done: Vec<String> = sqlx::query_scalar("SELECT tenancy.protect('shop.orders')")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert_eq!(done, ["GRANT UPDATE (later) ON shop.orders TO tenancy_app"]);
    let again: Vec<String> = sqlx::query_scalar(
        "SELECT tenancy.protect('shop.orders') UNION ALL SELECT tenancy.share('shop.units')",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(again.is_empty(), "{again:?}");
    let outcome = setup(&mut connection, &Setup::default()).await.unwrap();
    assert!(!outcome.changed(), "{outcome:#?}");
    sqlx::raw_sql("RESET SESSION AUTHORIZATION").execute(&mut *connection).await.unwrap();
    drop(connection);

    assert_eq!(owner_of(&pool, "shop.orders").await, "tenancy_owner");
    assert_eq!(app(&pool, A, "SELECT FROM shop.orders").await, Ok(1));
    assert!(!set_up_all(&pool).await.changed(), "a superuser finds nothing to add");
    exec(&pool, "DROP SCHEMA shop CASCADE").await;
    drop_role(&pool, &migrator).await;
}

#[tokio::test]
async fn what_a_migrator_may_not_do_is_a_note() {
    let pool = platform("CREATE SCHEMA shop; CREATE TABLE shop.foreign_one (id int, tenant_id uuid)").await;
    let migrator = role(&pool, "narrow", "LOGIN").await;
    exec(
        &pool,
        format!("GRANT tenancy_owner TO {migrator}; GRANT USAGE, CREATE ON SCHEMA shop TO {migrator}"),
    )
    .await;
    let mut connection = pool.acquire().await.unwrap();
    let create =
        format!("SET SESSION AUTHORIZATION {migrator}; CREATE TABLE shop.orders (id int, tenant_id uuid)");
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await.unwrap();
    let outcome = setup(&mut connection, &named("shop.orders")).await.unwrap();
    let notes = outcome.tables[0].notes.join("\n");
    assert!(notes.contains("ALTER TABLE shop.orders OWNER TO tenancy_owner"), "{notes}");
    assert!(
        notes.contains(&format!("{migrator} may not grant USAGE on SCHEMA shop for tenancy_app")),
        "{notes}"
    );
    assert!(!setup(&mut connection, &named("shop.orders")).await.unwrap().changed());
    let error = failure(setup(&mut connection, &named("shop.foreign_one")).await);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    sqlx::raw_sql("RESET SESSION AUTHORIZATION").execute(&mut *connection).await.unwrap();
    drop(connection);
    exec(&pool, "DROP SCHEMA shop CASCADE").await;
    drop_role(&pool, &migrator).await;
}

#[tokio::test]
async fn the_application_calls_none_of_it() {
    let pool = platform(EVENTS).await;
    for call in [
        "tenancy.protect('events')",
        "tenancy.share('events')",
        "tenancy.establish('events', 'tenant')",
        "tenancy.protection('events')",
        "tenancy.platform_tables()",
        "tenancy.find_table('events')",
        "tenancy.harden('events', true)",
        "tenancy.crossing_uniques('events')",
        "tenancy.replaced_keys('events')",
        "tenancy.lock_isolation()",
        "tenancy.forget_dropped_tables()",
    ] {
        assert_eq!(app(&pool, A, &format!("SELECT {call}")).await, denied(), "{call}");
    }
}

#[tokio::test]
async fn rights_that_pass_policies_by_are_taken_back() {
    let pool = platform(EVENTS).await;
    let other = role(&pool, "other", "LOGIN").await;
    exec(&pool, format!(
        "GRANT ALL ON events TO PUBLIC; GRANT ALL ON events TO tenancy_app WITH GRANT OPTION;
         GRANT REFERENCES (id), UPDATE (tenant_id, x) ON events TO tenancy_app WITH GRANT OPTION;
         SET ROLE tenancy_app; GRANT TRUNCATE ON events TO {other}; GRANT UPDATE (tenant_id) ON events TO {other}; RESET ROLE"
    )).await;
    set_up_all(&pool).await;
    for right in ["TRUNCATE", "TRIGGER", "REFERENCES", "UPDATE"] {
        for role in ["tenancy_app", other.as_str()] {
            let has: bool = sqlx::query_scalar("SELECT has_table_privilege($1, 'events', $2)")
                .bind(role)
                .bind(right)
                .fetch_one(&pool)
                .await
                .unwrap();
            assert!(!has, "{role} {right}");
        }
    }
    assert_eq!(app(&pool, A, "UPDATE events SET x = 'y'").await, Ok(0));
    assert_eq!(app(&pool, A, &format!("UPDATE events SET tenant_id = '{A}'")).await, denied());
    assert!(!set_up_all(&pool).await.changed());
    drop_role(&pool, &other).await;
}
