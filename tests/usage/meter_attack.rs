//! Metering against whoever owns the metered tables: nothing of theirs runs as the control plane or as an operator, and
//! nothing they can do to a table makes its count false without a word.

use serde_json::json;

use crate::common::{Database, Run};

use super::meter::{EVENTS, attach, held, platform, run, used, with_ids};

/// An ordinary login with a schema of its own, where `plat.steal()` leaves a trace, which no rollback takes back, once it runs
/// as anybody else.
fn smith(db: &Database) -> String {
    let smith = format!("{}_smith", db.name);
    db.sql(&format!(
        "CREATE ROLE {smith} LOGIN; CREATE SCHEMA plat AUTHORIZATION {smith}; SET ROLE {smith};
         GRANT USAGE ON SCHEMA plat TO PUBLIC; CREATE SEQUENCE plat.stolen; GRANT ALL ON plat.stolen TO PUBLIC;
         CREATE FUNCTION plat.steal() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
             IF current_user <> '{smith}' THEN PERFORM nextval('plat.stolen'); END IF; RETURN true; END $$;
         CREATE TABLE plat.t (id int, tenant_id uuid, size bigint)"
    ));
    smith
}

fn nothing_stolen(db: &Database, after: &str) {
    assert_eq!(db.sql("SELECT is_called FROM plat.stolen"), "f", "{after}");
}

fn write(db: &Database, role: &str, sql: &str) -> Run {
    db.psql_as(role, None, &with_ids(db, sql))
}

fn fails(db: &Database, role: &str, sql: &str, said: &str) {
    let run = write(db, role, sql);
    assert!(run.code != 0 && run.stderr.contains(said), "{sql}: {run:?}");
}

fn state(db: &Database, metric: &str) -> serde_json::Value {
    db.json(&["usage", "meter", "list", metric])[0]["state"].clone()
}

#[tokio::test]
async fn a_column_of_another_type_runs_nothing_of_its_owner() {
    let db = platform("enterprise", "SELECT").await;
    let smith = smith(&db);
    attach(&db, &["events", "--table", "plat.t"]).expect(0);
    attach(&db, &["storage", "--table", "plat.t", "--sum", "size"]).expect(0);
    write(&db, &smith, "INSERT INTO plat.t VALUES (1, :acme, 5), (2, :beta, 6)").expect(0);
    // A transaction that still sees the column as it was.
    let mut old = db.session().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "SET SESSION AUTHORIZATION {smith}; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM pg_class"
    )))
    .execute(old.connection())
    .await
    .unwrap();

    // What was counted twice as much: 0.5 and 0.5 would be 2.
    fails(
        &db,
        &smith,
        "ALTER TABLE plat.t ALTER size TYPE numeric; INSERT INTO plat.t VALUES (3, :acme, 0.5), (4, :acme, 0.5)",
        "column size of plat.t is metered, and cannot be of type numeric",
    );
    write(
        &db,
        &smith,
        "CREATE TYPE plat.e AS ENUM ('x');
         CREATE FUNCTION plat.as_uuid(plat.e) RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN PERFORM plat.steal(); RETURN NULL; END $$;
         CREATE FUNCTION plat.as_bigint(plat.e) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM plat.steal(); RETURN 1; END $$;
         CREATE CAST (plat.e AS uuid) WITH FUNCTION plat.as_uuid(plat.e) AS IMPLICIT;
         CREATE CAST (plat.e AS bigint) WITH FUNCTION plat.as_bigint(plat.e) AS IMPLICIT",
    )
    .expect(0);
    fails(
        &db,
        &smith,
        "ALTER TABLE plat.t DROP size; ALTER TABLE plat.t ADD size plat.e; INSERT INTO plat.t VALUES (1, :acme, 'x')",
        "column size of plat.t is metered, and cannot be of type plat.e",
    );
    write(&db, &smith, "ALTER TABLE plat.t DROP tenant_id; ALTER TABLE plat.t ADD tenant_id plat.e")
        .expect(0);
    for sql in [
        "INSERT INTO plat.t (id, tenant_id) VALUES (3, 'x')",
        "UPDATE plat.t SET tenant_id = 'x'",
        "DELETE FROM plat.t",
    ] {
        fails(&db, &smith, sql, "column tenant_id of plat.t is metered, and cannot be of type plat.e");
    }
    let error = sqlx::raw_sql("INSERT INTO plat.t (id, tenant_id) VALUES (3, 'x')")
        .execute(old.connection())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot be of type plat.e"), "{error}");
    nothing_stolen(&db, "writing");
    assert_eq!(
        (used(&db, "events"), used(&db, "storage")),
        ("acme 1, beta 1".into(), "acme 5, beta 6".into())
    );

    // Nor of whoever compares, or attaches again.
    db.sql("SET session_replication_role = replica; UPDATE plat.t SET tenant_id = 'x'");
    assert_eq!(state(&db, "events"), "incomplete");
    let compared = db.tenantctl(&["usage", "reconcile", "--repair"]);
    let said = format!("{}{}", compared.stdout, compared.stderr);
    assert!(said.contains("cannot be of type plat.e"), "{compared:?}");
    let error = db.refused(2, &["usage", "meter", "attach", "events", "--table", "plat.t"]);
    assert!(error["message"].as_str().unwrap().contains("of type plat.e, not uuid"), "{error}");
    nothing_stolen(&db, "reading");
    db.tenantctl(&["usage", "meter", "detach", "events"]).expect(0);
    db.tenantctl(&["usage", "meter", "detach", "storage"]).expect(0);
    write(&db, &smith, "DELETE FROM plat.t").expect(0);
}

#[tokio::test]
async fn domains_generated_columns_and_views_run_nothing_of_their_owner() {
    let db = platform("enterprise", "SELECT").await;
    let smith = smith(&db);
    db.sql("INSERT INTO tenancy.metrics (key, name, unit, kind) VALUES ('made', 'Made', 'count', 'gauge')");
    write(
        &db,
        &smith,
        "CREATE FUNCTION plat.check_it(anyelement) RETURNS boolean LANGUAGE sql AS 'SELECT plat.steal()';
         CREATE DOMAIN plat.whose AS uuid CHECK (plat.check_it(VALUE)); CREATE DOMAIN plat.much AS bigint CHECK (plat.check_it(VALUE));
         CREATE FUNCTION plat.made(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM plat.steal(); RETURN $1 * 2; END $$;
         CREATE TABLE plat.d (id int, tenant_id plat.whose, size plat.much, twice bigint GENERATED ALWAYS AS (plat.made(id)) STORED)",
    )
    .expect(0);
    attach(&db, &["events", "--table", "plat.d"]).expect(0);
    attach(&db, &["storage", "--table", "plat.d", "--sum", "size"]).expect(0);
    attach(&db, &["made", "--table", "plat.d", "--sum", "twice"]).expect(0);
    write(&db, &smith, "INSERT INTO plat.d VALUES (1, :acme, 5), (2, :beta, NULL), (3, NULL, 4)").expect(0);
    write(&db, &smith, "UPDATE plat.d SET size = 7, tenant_id = :beta, id = 10 WHERE id = 1").expect(0);
    write(&db, &smith, "DELETE FROM plat.d WHERE id = 3").expect(0);
    assert_eq!(
        ["events", "storage", "made"].map(|metric| used(&db, metric)),
        ["beta 2", "beta 7", "beta 24"],
        "a domain is as good as what it is over"
    );
    assert_eq!(db.json(&["usage", "reconcile"]), json!([]));
    db.sql("SET session_replication_role = replica; DELETE FROM plat.d WHERE id = 2");
    db.tenantctl(&["usage", "reconcile", "--repair"]).expect(0);
    assert_eq!(used(&db, "events"), "beta 1");
    nothing_stolen(&db, "domains and generated columns");

    // Up to PostgreSQL 15 an empty table can be made a view, and is the same relation.
    attach(&db, &["participants", "--table", "plat.t"]).expect(0);
    for event in ["insert", "update", "delete", "truncate"] {
        write(&db, &smith, &format!("DROP TRIGGER tenancy_meter_{event} ON plat.t")).expect(0);
    }
    db.sql("VACUUM plat.t");
    let turned = write(
        &db,
        &smith,
        "CREATE FUNCTION plat.row() RETURNS uuid LANGUAGE plpgsql AS $$ BEGIN PERFORM plat.steal(); RETURN NULL; END $$;
         CREATE RULE \"_RETURN\" AS ON SELECT TO plat.t DO INSTEAD SELECT 1 AS id, plat.row() AS tenant_id, 1::bigint AS size",
    );
    let old: bool = db.sql("SELECT current_setting('server_version_num')::int < 160000") == "t";
    assert_eq!(turned.code == 0, old, "{turned:?}");
    assert_eq!(state(&db, "participants"), "incomplete");
    let compared = db.tenantctl(&["usage", "reconcile", "--repair"]);
    if old {
        let said = format!("{}{}", compared.stdout, compared.stderr);
        assert!(said.contains("no longer a table that can be metered"), "{compared:?}");
    }
    nothing_stolen(&db, "a view");
    db.tenantctl(&["usage", "meter", "detach", "participants"]).expect(0);
}

#[tokio::test]
async fn what_would_drift_is_refused() {
    let db = platform("enterprise", EVENTS).await;
    run(&db, "INSERT INTO public.events (tenant_id, size) VALUES (:acme, 5), (:acme, -3)");
    let error =
        db.refused(10, &["usage", "meter", "attach", "storage", "--table", "events", "--sum", "size"]);
    assert!(error["message"].as_str().unwrap().contains("values below zero"), "{error}");
    db.sql("DELETE FROM public.events WHERE size < 0");
    attach(&db, &["storage", "--table", "events", "--sum", "size"]).expect(0);
    let said = "column size of public.events is metered, and cannot be negative";
    fails(
        &db,
        "postgres",
        "INSERT INTO public.events (tenant_id, size) VALUES (:acme, 9), (:acme, -4)",
        said,
    );
    fails(&db, "postgres", "UPDATE public.events SET size = -1", said);
    assert_eq!(used(&db, "storage"), "acme 5");

    // However much is deleted, it can be.
    run(
        &db,
        "SET session_replication_role = replica; INSERT INTO public.events (tenant_id, size) SELECT :acme, 9223372036854775807 FROM generate_series(1, 3)",
    );
    db.sql("DELETE FROM public.events");
    assert_eq!(used(&db, "storage"), "");

    // A crash empties it, and not the counter.
    db.sql("CREATE UNLOGGED TABLE public.light (tenant_id uuid)");
    let error = db.refused(2, &["usage", "meter", "attach", "events", "--table", "light"]);
    assert_eq!(error["hint"], "ALTER TABLE public.light SET LOGGED");
    db.sql("ALTER TABLE public.light SET LOGGED");
    attach(&db, &["events", "--table", "light"]).expect(0);
    db.sql("ALTER TABLE public.light SET UNLOGGED");
    assert_eq!(state(&db, "events"), "incomplete");
    db.sql("DROP TABLE public.light");

    // Of two tenants that cannot be counted one is named, with its own amount; rows of nobody are as many as they are.
    db.sql("CREATE TABLE public.huge (tenant_id uuid, n bigint)");
    run(
        &db,
        "INSERT INTO public.huge SELECT :acme, 9223372036854775807 FROM generate_series(1, 2);
              INSERT INTO public.huge SELECT :beta, 9223372036854775807 FROM generate_series(1, 3)",
    );
    let first = db.sql("SELECT CASE slug WHEN 'acme' THEN '18446744073709551614' ELSE '27670116110564327421' END || '|' || id FROM tenancy.tenants ORDER BY id LIMIT 1");
    let (amount, id) = first.split_once('|').unwrap();
    db.tenantctl(&["usage", "meter", "detach", "events"]).expect(0);
    let error = db.refused(10, &["usage", "meter", "attach", "events", "--table", "huge", "--sum", "n"]);
    assert!(error["message"].as_str().unwrap().contains(&format!("tenant {id} has {amount} ")), "{error}");
    db.sql("UPDATE public.huge SET tenant_id = NULL");
    let done = db.json(&["usage", "meter", "attach", "events", "--table", "huge", "--sum", "n"]);
    assert_eq!(done["unassigned"], i64::MAX);
    let again = db.json(&["usage", "meter", "attach", "events", "--table", "huge", "--sum", "n"]);
    assert_eq!((&again["outcome"], &again["unassigned"]), (&json!("unchanged"), &json!(null)));
}

#[tokio::test]
async fn triggers_stay_as_they_were_enabled_and_count_once() {
    let db = platform("enterprise", EVENTS).await;
    attach(&db, &["events", "--table", "events"]).expect(0);
    db.sql(
        "ALTER TABLE public.events ENABLE ALWAYS TRIGGER tenancy_meter_insert;
         ALTER TRIGGER tenancy_meter_update ON public.events RENAME TO mine",
    );
    attach(&db, &["storage", "--table", "events", "--sum", "size"]).expect(0);
    assert_eq!(
        db.sql("SELECT string_agg(tgname || ' ' || tgenabled::text, ', ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = 'public.events'::regclass AND NOT tgisinternal"),
        "tenancy_meter_delete O, tenancy_meter_insert A, tenancy_meter_truncate O, tenancy_meter_update O"
    );
    run(
        &db,
        "SET session_replication_role = replica; INSERT INTO public.events (tenant_id, size) VALUES (:acme, 3)",
    );
    run(&db, "UPDATE public.events SET tenant_id = :beta");
    assert_eq!((used(&db, "events"), used(&db, "storage")), ("beta 1".into(), "beta 3".into()));
    // A table that is gone holds nothing that would make a count false.
    db.sql("CREATE TABLE public.other (tenant_id uuid)");
    attach(&db, &["events", "--table", "other"]).expect(0);
    db.sql("DROP TABLE public.other; TRUNCATE public.events");
    assert_eq!((used(&db, "events"), held(&db, "count(*)", "public.events")), (String::new(), String::new()));
}
