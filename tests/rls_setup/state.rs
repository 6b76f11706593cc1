//! Desired state: what is missing is added, what is there is left, and a dry run leaves no trace.

use super::*;

const EVENTS: &str = "CREATE TABLE events (id int PRIMARY KEY, tenant_id uuid, x text);
                      CREATE TABLE countries (code text PRIMARY KEY)";

#[tokio::test]
async fn a_second_run_has_nothing_to_do() {
    let pool = platform(EVENTS).await;
    let first = set_up_all(&pool).await;
    assert_eq!(first.tables[0].outcome, Outcome::Created);
    assert_eq!(first.notes.len(), 1);
    assert!(first.notes[0].starts_with("public.countries has no tenant column"), "{}", first.notes[0]);
    let before = catalogs_of(&pool).await;

    let second = set_up_all(&pool).await;
    assert!(!second.changed());
    assert_eq!(second.tables[0].outcome, Outcome::Unchanged);
    assert_eq!(catalogs_of(&pool).await, before);
    assert_eq!(
        serde_json::to_value(&second.tables[0]).unwrap(),
        serde_json::json!({ "table": "public.events", "kind": "tenant", "outcome": "unchanged", "actions": [], "statements": [], "notes": [] })
    );
}

#[tokio::test]
async fn a_dry_run_leaves_no_trace() {
    let pool = platform(EVENTS).await;
    let before = catalogs_of(&pool).await;
    let mut tx = pool.begin().await.unwrap();
    let dry = setup(&mut tx, &Setup::default()).await.unwrap();
    assert_ne!(catalogs(&mut tx).await, before);
    tx.rollback().await.unwrap();
    assert_eq!(catalogs_of(&pool).await, before);

    let planned = plan(&mut pool.acquire().await.unwrap(), &Setup::default()).await.unwrap();
    assert_eq!(planned, dry, "the plan is what the run does");
    assert_eq!(catalogs_of(&pool).await, before);
}

#[tokio::test]
async fn the_printed_script_leads_to_the_same_state() {
    let schema = r#"
        CREATE SCHEMA "b""ill";
        CREATE TABLE "b""ill"."Invoice; \q" (id serial, tenant_id bigint, x text);
        CREATE TABLE log (id int, tenant_id uuid, x text, at date DEFAULT '2026-01-01') PARTITION BY RANGE (at);
        CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE TABLE parent (id int, tenant_id uuid, x text);
        CREATE TABLE child (y int) INHERITS (parent);
        CREATE TABLE open (id int, tenant_id text); GRANT ALL ON open TO PUBLIC, tenancy_app;
        CREATE TABLE countries (code text PRIMARY KEY)"#;
    let options = Setup { admin_bypass: true, shared: vec!["countries".into()], ..Setup::default() };
    let one = platform(schema).await;
    set_up(&one, &options).await.unwrap();

    let other = platform(schema).await;
    let script = plan(&mut other.acquire().await.unwrap(), &options).await.unwrap().script();
    let file = std::env::temp_dir().join(format!("tenancy-script-{}.sql", std::process::id()));
    std::fs::write(&file, &script).unwrap();
    let to = other.connect_options();
    let psql = std::process::Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&file)
        .env(
            "PGHOST",
            to.get_socket().map_or_else(|| to.get_host().into(), |path| path.display().to_string()),
        )
        .env("PGPORT", to.get_port().to_string())
        .env("PGUSER", to.get_username())
        .env("PGDATABASE", to.get_database().unwrap())
        .output()
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(psql.status.success(), "{}\n{script}", String::from_utf8_lossy(&psql.stderr));
    assert_eq!(catalogs_of(&other).await, catalogs_of(&one).await);
    assert!(!set_up(&other, &options).await.unwrap().changed());
}

#[tokio::test]
async fn what_was_tampered_with_is_mended() {
    let pool = platform(EVENTS).await;
    rows(&pool, "events", "tenant_id", A, B).await;
    set_up_all(&pool).await;
    let before = catalogs_of(&pool).await;
    for tampering in [
        "ALTER POLICY tenant_isolation ON events USING (true)",
        "ALTER POLICY tenant_isolation ON events WITH CHECK (true)",
        "ALTER POLICY tenant_isolation ON events USING (tenant_id = (SELECT tenancy.current_tenant_id()) OR true)",
        "ALTER POLICY tenant_isolation ON events USING (tenant_id = tenancy.current_tenant_id())",
        "ALTER POLICY tenant_isolation ON events TO PUBLIC",
        "ALTER POLICY tenant_isolation ON events TO tenancy_app, tenancy_auditor",
        "DROP POLICY tenant_isolation ON events; CREATE POLICY tenant_isolation ON events FOR SELECT TO tenancy_app
             USING (tenant_id = (SELECT tenancy.current_tenant_id()))",
        "DROP POLICY tenant_floor ON events",
        "DROP POLICY tenant_floor ON events; CREATE POLICY tenant_floor ON events USING (true)",
        "ALTER POLICY tenant_floor ON events TO tenancy_app",
        "ALTER POLICY tenant_floor ON events USING (tenant_id = (SELECT tenancy.current_tenant_id())
             OR (SELECT pg_has_role(current_user, 'tenancy_app', 'USAGE')))",
        "CREATE POLICY tenant_admin ON events TO PUBLIC USING (true)",
        "ALTER TABLE events DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE events NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE events OWNER TO postgres",
        "ALTER TABLE events ALTER tenant_id DROP NOT NULL",
        "ALTER TABLE events DROP CONSTRAINT events_tenant_id_fkey",
        "DROP INDEX events_tenant_id_idx",
        "GRANT ALL ON events TO tenancy_app, PUBLIC",
        "GRANT UPDATE (tenant_id), REFERENCES (id) ON events TO tenancy_app, PUBLIC",
        "GRANT TRUNCATE, TRIGGER ON events TO tenancy_app",
        "REVOKE UPDATE (x), DELETE ON events FROM tenancy_app",
        "GRANT SELECT ON events TO tenancy_admin",
        "DELETE FROM tenancy.protected_tables",
    ] {
        exec(&pool, tampering).await;
        assert_ne!(catalogs_of(&pool).await, before, "{tampering}");
        assert!(set_up_all(&pool).await.changed(), "{tampering}");
        assert_eq!(catalogs_of(&pool).await, before, "{tampering}");
    }
}

#[tokio::test]
async fn policies_of_others_stay_and_the_floor_holds() {
    let pool = platform(EVENTS).await;
    rows(&pool, "events", "tenant_id", A, B).await;
    exec(&pool, "CREATE POLICY everyone ON events USING (true) WITH CHECK (true)").await;
    set_up_all(&pool).await;
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_policy WHERE polname = 'everyone'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(there, 1);
    assert_eq!(app(&pool, A, "SELECT FROM events").await, Ok(2));
    assert_eq!(app(&pool, A, "DELETE FROM events").await, Ok(2));
    assert_eq!(app(&pool, A, &format!("INSERT INTO events VALUES (9, '{B}')")).await, denied());
}

#[tokio::test]
async fn rows_in_the_way_are_told() {
    let pool = platform(&format!(
        "CREATE TABLE nobodys (id int, tenant_id uuid); INSERT INTO nobodys VALUES (1, NULL), (2, NULL), (3, '{A}');
         CREATE TABLE strangers (id int, tenant_id uuid);
         INSERT INTO strangers SELECT g, gen_random_uuid() FROM generate_series(1, 1500) g;
         CREATE TABLE clients (id uuid PRIMARY KEY);
         CREATE TABLE elsewhere (id int, tenant_id uuid REFERENCES clients)"
    ))
    .await;
    let outcome = set_up_all(&pool).await;
    let notes = |table: &str| outcome.tables.iter().find(|t| t.table == table).unwrap().notes.join("\n");
    assert_eq!(
        notes("public.nobodys"),
        "tenant_id stays nullable: 2 rows belong to no tenant (SELECT * FROM public.nobodys WHERE tenant_id IS NULL)"
    );
    assert_eq!(
        notes("public.strangers"),
        "tenant_id gets no reference to tenancy.tenants: more than 1000 rows belong to tenants that do not exist there"
    );
    assert_eq!(notes("public.elsewhere"), "");
    let references: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_constraint WHERE conrelid = 'elsewhere'::regclass AND contype = 'f'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(references, 1, "a reference to the platform's own tenants is as good");
    assert_eq!(app(&pool, A, "SELECT FROM nobodys").await, Ok(1), "nobody's rows are nobody's");
    let again = set_up_all(&pool).await;
    assert!(!again.changed());
    assert_eq!(
        again.tables.iter().filter(|t| !t.notes.is_empty()).count(),
        2,
        "the notes stay until the rows are mended"
    );
}

#[tokio::test]
async fn a_foreign_part_is_told_and_the_rest_protected() {
    let pool = platform(
        "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
         CREATE TABLE log (id int, tenant_id uuid, at date) PARTITION BY RANGE (at);
         CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         CREATE FOREIGN TABLE log_2025 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') SERVER nowhere",
    )
    .await;
    let outcome = set_up_all(&pool).await;
    assert_eq!(outcome.tables.len(), 2);
    assert_eq!(
        outcome.tables[0].notes,
        [
            "tenant_id stays nullable: a part of the table is a foreign table",
            "tenant_id gets no reference to tenancy.tenants: a part of the table is a foreign table",
            "its partition or child public.log_2025 is a foreign table, which takes no policies",
        ]
    );
    assert!(!set_up_all(&pool).await.changed());
}

#[tokio::test]
async fn rows_that_policies_hide_do_not_count_as_none() {
    let pool = platform(EVENTS).await;
    rows(&pool, "events", "tenant_id", A, B).await;
    set_up_all(&pool).await;
    exec(
        &pool,
        "ALTER TABLE events DROP CONSTRAINT events_tenant_id_fkey, ALTER tenant_id DROP NOT NULL;
         INSERT INTO events VALUES (8, gen_random_uuid()), (9, NULL)",
    )
    .await;
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL ROLE tenancy_owner").execute(&mut *tx).await.unwrap();
    let outcome = setup(&mut tx, &Setup::default()).await.unwrap();
    assert!(!outcome.changed());
    assert_eq!(
        outcome.tables[0].notes,
        [
            "tenant_id stays nullable: tenancy_owner cannot see all rows",
            "tenant_id gets no reference to tenancy.tenants: tenancy_owner cannot see all rows",
        ]
    );
}

#[tokio::test]
async fn two_setups_at_once_make_one_state() {
    let pool = platform(EVENTS).await;
    let all = Setup::default();
    let (one, two) = tokio::join!(set_up(&pool, &all), set_up(&pool, &all));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.changed(), two.changed(), "one did it, the other found it done");
    assert!(!set_up_all(&pool).await.changed());
}

#[tokio::test]
async fn a_dropped_table_is_forgotten() {
    let pool = platform(EVENTS).await;
    set_up_all(&pool).await;
    exec(&pool, "DROP TABLE events").await;
    set_up_all(&pool).await;
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM tenancy.protected_tables").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn refusals_say_why_and_what_to_do() {
    let pool = platform(
        "CREATE TABLE events (id int, tenant_id uuid); CREATE VIEW seen AS SELECT * FROM events;
         CREATE TABLE dated (tenant_id date); CREATE TABLE bare (id int)",
    )
    .await;
    let off = Setup { enabled: false, ..Setup::default() };
    assert_eq!(failure(set_up(&pool, &off).await).kind(), ErrorKind::Refused);
    assert_eq!(failure(plan(&mut pool.acquire().await.unwrap(), &off).await).kind(), ErrorKind::Refused);

    for (table, kind, words) in [
        ("evnts", ErrorKind::NotFound, "\"events\""),
        ("seen", ErrorKind::Invalid, "security_invoker"),
        ("bare", ErrorKind::Invalid, "tenancy.share()"),
        ("dated", ErrorKind::Invalid, "uuid, text"),
        ("tenancy.tenants", ErrorKind::Refused, "control plane"),
        ("pg_class", ErrorKind::Refused, "platform"),
        ("\"", ErrorKind::NotFound, "its schema"),
        ("a.b.c.d", ErrorKind::NotFound, "its schema"),
    ] {
        let error = failure(set_up(&pool, &named(table)).await);
        assert_eq!(error.kind(), kind, "{table}: {error}");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains(words), "{table}: {hint}");
    }
    let error = failure(set_up(&pool, &named("dated")).await);
    assert_eq!(
        error.to_string(),
        "invalid table \"public.dated\": column tenant_id of table public.dated is of type date"
    );
    let shared =
        |table: &str| Setup { shared: vec![table.into()], tables: vec!["events".into()], ..Setup::default() };
    assert_eq!(failure(set_up(&pool, &shared("dated")).await).kind(), ErrorKind::Refused);
    set_up(&pool, &named("events")).await.unwrap();
    assert_eq!(failure(set_up(&pool, &shared("events")).await).kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_hostile_search_path_changes_nothing() {
    let evil = "CREATE SCHEMA evil;
        CREATE FUNCTION evil.yes(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR evil.= (FUNCTION = evil.yes, LEFTARG = uuid, RIGHTARG = uuid);
        CREATE TABLE evil.pg_class (oid oid); CREATE TABLE evil.pg_policy (oid oid);
        CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''DROP TABLE events''';
        CREATE FUNCTION evil.pg_has_role(name, text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'";
    let good = platform(EVENTS).await;
    set_up_all(&good).await;
    let bad = platform(&format!("{EVENTS}; {evil}")).await;
    let mut tx = bad.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL search_path = evil, public, pg_catalog").execute(&mut *tx).await.unwrap();
    setup(&mut tx, &named("events")).await.unwrap();
    tx.commit().await.unwrap();
    let policies =
        |lines: Vec<String>| lines.into_iter().filter(|l| l.starts_with("policy")).collect::<Vec<_>>();
    assert_eq!(policies(catalogs_of(&bad).await), policies(catalogs_of(&good).await));
}
