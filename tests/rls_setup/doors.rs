//! What a tenant's transaction can and cannot do with the tables.

use super::*;

const EVENTS: &str = "CREATE TABLE events (id int PRIMARY KEY, tenant_id uuid, x text)";

#[tokio::test]
async fn a_tenant_sees_and_changes_its_own_rows_only() {
    let pool = platform(EVENTS).await;
    rows(&pool, "events", "tenant_id", A, B).await;
    set_up_all(&pool).await;

    assert_eq!(app(&pool, A, "SELECT FROM events").await, Ok(2));
    assert_eq!(app(&pool, B, "SELECT FROM events").await, Ok(3));
    assert_eq!(
        try_as(&pool, "tenancy_app", None, "SELECT FROM events").await,
        Ok(0),
        "no context, no rows, no error"
    );
    assert_eq!(
        app(&pool, "", "SELECT FROM events").await,
        Ok(0),
        "what a pooled connection has after its first use"
    );
    assert_eq!(app(&pool, "00000000-0000-4000-8000-000000000000", "SELECT FROM events").await, Ok(0));
    assert_eq!(
        app(&pool, "' OR true --", "SELECT FROM events").await,
        Err("22P02".into()),
        "garbage is an error"
    );

    assert_eq!(app(&pool, A, &format!("INSERT INTO events VALUES (9, '{A}')")).await, Ok(1));
    assert_eq!(app(&pool, A, &format!("INSERT INTO events VALUES (9, '{B}')")).await, denied());
    assert!(app(&pool, A, "INSERT INTO events VALUES (9, NULL)").await.is_err());
    let upsert =
        format!("INSERT INTO events VALUES (5, '{A}', 'mine') ON CONFLICT (id) DO UPDATE SET x = 'mine'");
    assert_eq!(app(&pool, A, &upsert).await, denied(), "the row in conflict is another's");

    assert_eq!(app(&pool, A, "UPDATE events SET x = 'y'").await, Ok(2));
    assert_eq!(app(&pool, A, "UPDATE events SET x = 'y' WHERE id = 5").await, Ok(0));
    assert_eq!(app(&pool, A, &format!("UPDATE events SET tenant_id = '{B}'")).await, denied());
    assert_eq!(app(&pool, A, &format!("UPDATE events SET tenant_id = '{A}'")).await, denied());
    assert_eq!(app(&pool, A, "DELETE FROM events").await, Ok(2));
    assert_eq!(app(&pool, A, "SELECT FROM events FOR UPDATE").await, Ok(2));
    assert_eq!(app(&pool, A, "TRUNCATE events").await, denied());
    assert_eq!(app(&pool, A, "ALTER TABLE events DISABLE ROW LEVEL SECURITY").await, denied());
    assert_eq!(
        try_as(&pool, "tenancy_owner", None, "SELECT FROM events").await,
        Ok(0),
        "policies bind the owner too"
    );
    assert_eq!(try_as(&pool, "tenancy_admin", None, "SELECT FROM events").await, denied());
}

#[tokio::test]
async fn every_type_of_tenant_column_isolates_and_uses_its_index() {
    for (kind, a, b) in [
        ("uuid", A, B),
        ("text", "a", "b"),
        ("varchar", "a", "b"),
        ("varchar(40)", "a", "b"),
        ("bigint", "1", "2"),
        ("int", "1", "2"),
        ("keys.uuid_key", A, B),
        ("keys.int_key", "1", "2"),
        ("keys.text_key", "a", "b"),
    ] {
        let pool = platform(
            "CREATE SCHEMA keys; CREATE DOMAIN keys.uuid_key AS uuid; CREATE DOMAIN keys.int_key AS int;
                             CREATE DOMAIN keys.text_key AS varchar(9) CHECK (VALUE <> '')",
        )
        .await;
        exec(&pool, format!("CREATE TABLE t (id int, tenant_id {kind}, x text)")).await;
        exec(
            &pool,
            format!("INSERT INTO t SELECT g, (CASE WHEN g <= 2 THEN '{a}' ELSE '{b}' END)::{kind}, 'x' FROM generate_series(1, 5) g"),
        )
        .await;
        let outcome = set_up_all(&pool).await;
        assert_eq!(outcome.tables[0].notes, Vec::<String>::new(), "{kind}");
        assert!(!set_up_all(&pool).await.changed(), "{kind}: a second run has nothing to do");

        assert_eq!(app(&pool, a, "SELECT FROM t").await, Ok(2), "{kind}");
        assert_eq!(app(&pool, b, "SELECT FROM t").await, Ok(3), "{kind}");
        assert_eq!(app(&pool, "", "SELECT FROM t").await, Ok(0), "{kind}");
        assert_eq!(app(&pool, a, &format!("INSERT INTO t VALUES (1, '{a}')")).await, Ok(1), "{kind}");
        assert_eq!(app(&pool, a, &format!("INSERT INTO t VALUES (1, '{b}')")).await, denied(), "{kind}");
        if kind == "int" {
            assert_eq!(app(&pool, "99999999999", "SELECT FROM t").await, Ok(0), "out of range meets no row");
        }
        let mut tx = pool.begin().await.unwrap();
        sqlx::raw_sql("SET LOCAL enable_seqscan = off; SET LOCAL ROLE tenancy_app")
            .execute(&mut *tx)
            .await
            .unwrap();
        let explained: Vec<String> =
            sqlx::query_scalar("EXPLAIN SELECT * FROM t").fetch_all(&mut *tx).await.unwrap();
        assert!(explained.iter().any(|line| line.contains("Index Cond")), "{kind}: {explained:#?}");
    }
}

#[tokio::test]
async fn partitions_and_children_are_closed_in_their_own_right() {
    let pool = platform(
        "CREATE TABLE log (id int, tenant_id uuid, x text, at date DEFAULT '2026-01-01') PARTITION BY RANGE (at);
         CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (x);
         CREATE TABLE log_2026_x PARTITION OF log_2026 FOR VALUES IN ('x');
         CREATE TABLE parent (id int, tenant_id uuid, x text);
         CREATE TABLE child (y int) INHERITS (parent)",
    )
    .await;
    rows(&pool, "log", "tenant_id", A, B).await;
    rows(&pool, "child", "tenant_id", A, B).await;
    let outcome = set_up_all(&pool).await;
    let kinds: Vec<_> = outcome.tables.iter().map(|t| (t.table.as_str(), t.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("public.log", TableKind::Tenant),
            ("public.parent", TableKind::Tenant),
            ("public.child", TableKind::Child),
            ("public.log_2026", TableKind::Partition),
            ("public.log_2026_x", TableKind::Partition),
        ]
    );
    assert!(!set_up_all(&pool).await.changed());

    for table in ["log", "parent", "child"] {
        assert_eq!(app(&pool, A, &format!("SELECT FROM {table}")).await, Ok(2), "{table}");
    }
    assert_eq!(
        app(&pool, A, "SELECT FROM log_2026_x").await,
        denied(),
        "partitions are reached through their parent"
    );
    exec(&pool, "GRANT SELECT, INSERT ON log_2026, log_2026_x TO tenancy_app").await;
    for table in ["log_2026", "log_2026_x"] {
        assert_eq!(app(&pool, A, &format!("SELECT FROM {table}")).await, Ok(2), "{table}");
        let foreign = format!("INSERT INTO {table} (id, tenant_id, x) VALUES (9, '{B}', 'x')");
        assert_eq!(app(&pool, A, &foreign).await, denied(), "{table}");
    }

    exec(&pool, "CREATE TABLE log_2027 PARTITION OF log FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')")
        .await;
    let outcome = set_up(&pool, &named("log")).await.unwrap();
    let changed: Vec<_> =
        outcome.tables.iter().filter(|t| t.outcome != Outcome::Unchanged).map(|t| &t.table).collect();
    assert_eq!(changed, ["public.log_2027"], "a table brings its partitions");
}

const WEIRD: &str = r#""sch""é; DROP"."we""ird é""#;

#[tokio::test]
async fn hostile_names_are_names() {
    let names = [
        WEIRD,
        r#""Robert'); DROP TABLE events;--""#,
        "\"\n; DROP TABLE events; --\"",
        r#""%I $1 ' \ :x""#,
        "events",
    ];
    let pool = platform(r#"CREATE SCHEMA "sch""é; DROP""#).await;
    for name in names {
        exec(
            &pool,
            format!(r#"CREATE TABLE {name} (id serial PRIMARY KEY, "Tenant É" uuid, x text, "select" int)"#),
        )
        .await;
        rows(&pool, name, "\"Tenant É\"", A, B).await;
    }
    let options = Setup { tenant_columns: vec!["nothing".into(), "Tenant É".into()], ..Setup::default() };
    let planned = plan(&mut pool.acquire().await.unwrap(), &options).await.unwrap();
    exec(&pool, planned.script()).await;
    let outcome = set_up(&pool, &options).await.unwrap();
    assert!(
        !outcome.changed(),
        "the script did it all, and the line break in a name broke out of no comment"
    );
    assert_eq!(outcome.tables.len(), names.len());
    assert!(!set_up_all(&pool).await.changed(), "the registry knows the column");
    for name in names {
        assert_eq!(app(&pool, A, &format!("SELECT FROM {name}")).await, Ok(2), "{name}");
        let own = format!("INSERT INTO {name} (\"Tenant É\") VALUES ('{A}')");
        assert_eq!(
            app(&pool, A, &own.replace("(\"", "(id, \"").replace("('", "(99, '")).await,
            Ok(1),
            "{name}"
        );
        assert_eq!(app(&pool, A, &own.replace(A, B)).await, denied(), "{name}");
        assert_eq!(app(&pool, A, &format!("UPDATE {name} SET \"select\" = 1")).await, Ok(2), "{name}");
    }
    // As a person types them: quoted for SQL, or letter for letter.
    for typed in [WEIRD, "we\"ird é", "sch\"é; DROP.we\"ird é"] {
        let outcome = set_up(&pool, &named(typed)).await.unwrap();
        assert_eq!(outcome.tables[0].table, WEIRD, "{typed}");
    }
}

#[tokio::test]
async fn serials_identities_and_generated_columns_work_for_the_tenant() {
    let pool = platform(
        "CREATE TABLE t (id serial PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, tenant_id uuid, x text,
                         up text GENERATED ALWAYS AS (upper(x)) STORED);
         CREATE SEQUENCE numbers; ALTER TABLE t ADD number int DEFAULT nextval('numbers')",
    )
    .await;
    set_up_all(&pool).await;
    assert_eq!(
        app(&pool, A, &format!("INSERT INTO t (tenant_id, x) VALUES ('{A}', 'x') RETURNING up")).await,
        Ok(1)
    );
    assert_eq!(app(&pool, A, "UPDATE t SET x = 'y', number = 3").await, Ok(0));

    exec(&pool, "ALTER TABLE t ADD later int").await;
    let outcome = set_up_all(&pool).await;
    assert_eq!(outcome.tables[0].outcome, Outcome::Updated);
    assert_eq!(outcome.tables[0].statements, ["GRANT UPDATE (later) ON public.t TO tenancy_app"]);
}

#[tokio::test]
async fn references_hold_under_the_policies() {
    let pool = platform(
        include_str!("../../examples/hackops/schema.sql").replace("\\set ON_ERROR_STOP on", "").as_str(),
    )
    .await;
    let outcome = set_up_all(&pool).await;
    assert_eq!((outcome.tables.len(), outcome.notes.len()), (10, 0));
    assert!(outcome.tables.iter().all(|table| table.notes.is_empty()), "{outcome:#?}");
    assert!(
        outcome
            .tables
            .iter()
            .any(|table| table.kind == TableKind::Shared && table.outcome == Outcome::Unchanged)
    );
    let keys = outcome
        .tables
        .iter()
        .flat_map(|t| &t.statements)
        .filter(|s| s.contains("INDEX") || s.contains("KEY"));
    assert_eq!(keys.count(), 0, "the schema has its keys already");

    let event = |tenant: &str| {
        format!(
            "INSERT INTO events (tenant_id, id, slug, title, country, starts_at, ends_at)
                 VALUES ('{tenant}', '{tenant}', 'spring', 'Spring', 'DE', now(), now() + interval '1 day');"
        )
    };
    exec(&pool, event(B)).await;
    let join = |event: &str| {
        format!(
            "INSERT INTO participants (tenant_id, event_id, email, display_name)
                 VALUES ('{A}', '{event}', 'ada@acme.edu', 'Ada')"
        )
    };
    assert_eq!(app(&pool, A, &format!("{} {}", event(A), join(A))).await, Ok(2));
    assert_eq!(app(&pool, A, &join(B)).await, Err("23503".into()), "another tenant's event is no event");
    assert_eq!(app(&pool, A, "SELECT FROM countries").await, Ok(7));
    assert_eq!(app(&pool, A, "INSERT INTO countries VALUES ('XX', 'Nowhere')").await, denied());
    assert_eq!(app(&pool, A, "UPDATE countries SET name = 'x'").await, denied());

    // Deleting a parent reaches its children, though the policies bind their owner.
    exec(&pool, format!("{} {}", event(A), join(A))).await;
    assert_eq!(app(&pool, A, "DELETE FROM events").await, Ok(1));
    exec(&pool, "DELETE FROM events").await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM participants").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 0);
}
