//! `rls setup --online` leaves what the offline setup leaves, keeps nobody waiting, and goes on where it was ended.

use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Connection, Executor, Row};
use tenancy::db::Session;
use tenancy::rls::online::{self, Pace};

use super::names::{assert_same, state};
use super::*;
use crate::common::{Database, Run, run};

const TENANTS: &str = "INSERT INTO tenancy.tenants (id, slug, name, plan)
    VALUES ('aaaaaaaa-0000-4000-8000-000000000000', 'a', 'A', 'free'), ('bbbbbbbb-0000-4000-8000-000000000000', 'b', 'B', 'free')";

/// A table of so many rows.
fn events(rows: u32) -> String {
    format!(
        "CREATE TABLE events (id bigserial, tenant_id uuid, x text);
         INSERT INTO events (tenant_id, x) SELECT '{A}', 'x' FROM generate_series(1, {rows})"
    )
}

pub(super) async fn prepared(schema: &str) -> Database {
    let db = Database::migrated().await;
    db.sql(TENANTS);
    db.sql(schema);
    db
}

/// What the offline setup makes of a schema.
async fn offline(schema: &str) -> String {
    let db = prepared(schema).await;
    db.tenantctl(&["rls", "setup"]).expect(0);
    state(&db)
}

fn online(db: &Database, more: &[&str]) -> Run {
    db.tenantctl(&[&["rls", "setup", "--online"], more].concat())
}

/// Started, and left to itself.
pub(super) fn started(db: &Database, more: &[&str]) -> Child {
    let mut command = db.command();
    command.args(["rls", "setup", "--online"]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(super) fn ended(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A transaction that somebody left open after this statement.
pub(super) async fn left_open(db: &Database, statement: &str) -> sqlx::PgConnection {
    let mut connection =
        db.options.clone().application_name("forgotten").connect().await.expect("a connection");
    connection.execute(AssertSqlSafe(format!("BEGIN; {statement}"))).await.unwrap();
    connection
}

/// Inserts rows one after the other until told to stop; how many, and the longest that one took.
async fn writer(db: &Database, stop: &AtomicBool) -> (i64, Duration) {
    let mut connection = db.options.connect().await.unwrap();
    let (mut rows, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let insert = format!("INSERT INTO events (tenant_id, x) VALUES ('{A}', 'new')");
        connection.execute(AssertSqlSafe(insert)).await.unwrap();
        longest = longest.max(begun.elapsed());
        rows += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (rows, longest)
}

const EVERY_SORT: &str = r#"
    CREATE SCHEMA "b""ill";
    CREATE TABLE "b""ill"."Invoice; \q" (id serial, tenant_id bigint, x text);
    CREATE TABLE "b""ill"."Ünï ""x" (id serial, "Tenant ""Id" uuid, tenant_id uuid, x text);
    CREATE TABLE "ééééééééééééééééééééééééééééééé" (id int, tenant_id uuid);
    CREATE TABLE log (id int, tenant_id uuid, x text, at date DEFAULT '2026-01-01') PARTITION BY RANGE (at);
    CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE log_2027 PARTITION OF log FOR VALUES FROM ('2027-01-01') TO ('2028-01-01') PARTITION BY LIST (x);
    CREATE TABLE log_2027_a PARTITION OF log_2027 FOR VALUES IN ('a');
    CREATE TABLE indexed (tenant_id uuid NOT NULL, n int) PARTITION BY LIST (n);
    CREATE TABLE indexed_1 PARTITION OF indexed FOR VALUES IN (1);
    CREATE INDEX already ON indexed_1 (tenant_id);
    CREATE TABLE parent (id int, tenant_id uuid, x text);
    CREATE TABLE child (y int) INHERITS (parent);
    CREATE TABLE open (id int, tenant_id text); GRANT ALL ON open TO PUBLIC, tenancy_app;
    CREATE TABLE taken (id int, tenant_id uuid);
    CREATE TABLE taken_tenant_id_idx (id int, CONSTRAINT taken_tenant_id_fkey CHECK (id > 0));
    INSERT INTO log SELECT g, 'aaaaaaaa-0000-4000-8000-000000000000', 'x' FROM generate_series(1, 100) g;
    INSERT INTO log VALUES (1, 'bbbbbbbb-0000-4000-8000-000000000000', 'a', '2027-02-02');
    INSERT INTO child VALUES (1, 'bbbbbbbb-0000-4000-8000-000000000000', 'x', 1)"#;

#[tokio::test]
async fn the_outcome_is_that_of_the_offline_setup() {
    let db = prepared(EVERY_SORT).await;
    let before = state(&db);
    let dry = online(&db, &["--dry-run", "-o", "json"]).expect(0);
    assert!(dry.stderr.contains("would protect"), "{}", dry.stderr);
    assert_same(&state(&db), &before);
    let script = online(&db, &["--print"]).expect(0).stdout;
    assert_same(&state(&db), &before);

    let done = online(&db, &["-o", "json"]).expect(0);
    assert_same(&state(&db), &offline(EVERY_SORT).await);
    let statements = |run: &Run, table: &str| -> Vec<String> {
        let tables = run.json()["tables"].as_array().unwrap().clone();
        let found = tables.iter().find(|t| t["table"] == table).unwrap();
        serde_json::from_value(found["statements"].clone()).unwrap()
    };
    for table in ["public.log", "public.open", "\"b\"\"ill\".\"Invoice; \\q\""] {
        assert_eq!(statements(&dry, table), statements(&done, table), "the plan is what the run does");
    }
    let log = statements(&done, "public.log");
    assert_eq!(
        log[..4],
        [
            r#"CREATE INDEX CONCURRENTLY "log_2026_tenant_id_idx" ON public.log_2026 ("tenant_id")"#,
            r#"CREATE INDEX CONCURRENTLY "log_2027_a_tenant_id_idx" ON public.log_2027_a ("tenant_id")"#,
            r#"CREATE INDEX ON public.log ("tenant_id")"#,
            r#"ALTER TABLE public.log_2026 ADD CONSTRAINT "log_tenant_id_fkey" FOREIGN KEY ("tenant_id") REFERENCES tenancy.tenants (id) NOT VALID"#,
        ]
    );

    let again = db.tenantctl(&["rls", "setup"]).expect(0);
    assert!(again.stderr.contains("protected already (unchanged)"), "{}", again.stderr);
    let again = online(&db, &[]).expect(0);
    assert!(again.stderr.contains("protected already (unchanged)"), "{}", again.stderr);
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    let other = prepared(EVERY_SORT).await;
    other.tenantctl(&["rls", "setup"]).expect(0);
    other.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_same(&state(&db), &state(&other));

    // A person can run it just as well; only nothing is written down then.
    let by_hand = prepared(EVERY_SORT).await;
    let file = std::env::temp_dir().join(format!("tenancy-online-{}.sql", std::process::id()));
    std::fs::write(&file, script).unwrap();
    by_hand.psql(&["--file", file.to_str().unwrap()]).expect(0);
    std::fs::remove_file(&file).unwrap();
    let without_records =
        |state: String| state.lines().filter(|l| !l.starts_with("changed ")).collect::<Vec<_>>().join("\n");
    assert_same(&without_records(state(&by_hand)), &without_records(offline(EVERY_SORT).await));
}

#[tokio::test]
async fn a_transaction_that_does_not_end_is_named_and_given_up_on() {
    let db = prepared(&events(100)).await;
    let patient = &["--retries", "1", "--lock-timeout", "500ms"];
    for (holds, left) in [
        // What builds an index waits for whoever wrote to the table.
        (format!("INSERT INTO events (tenant_id) VALUES ('{A}')"), "events_tenant_id_idx"),
        // A reader is in the way of what is to be proven.
        ("SELECT FROM events".into(), ""),
    ] {
        let mut holder = left_open(&db, &holds).await;
        let stop = AtomicBool::new(false);
        let child = started(&db, &[patient, &["-o", "json"][..]].concat());
        let waited = tokio::task::spawn_blocking(move || ended(child));
        let (wrote, run) = tokio::join!(writer(&db, &stop), async {
            let run = waited.await.unwrap();
            stop.store(true, Ordering::Relaxed);
            run
        });
        let run = run.expect(4);
        assert_eq!(run.stdout, "");
        let error = run.error();
        assert_eq!(error["code"], "conflict");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("public.events") && message.contains("application forgotten"), "{message}");
        assert!(error["hint"].as_str().unwrap().contains("run the same command again"), "{error}");
        assert!(run.stderr.contains("waiting for pid "), "{}", run.stderr);
        // Half a second, and what a busy machine adds.
        assert!(wrote.0 > 20 && wrote.1 < Duration::from_millis(1500), "{wrote:?}");
        let broken = "SELECT string_agg(indexrelid::regclass::text, '') FROM pg_index WHERE NOT indisvalid";
        assert_eq!(db.sql(broken), left);

        holder.execute("ROLLBACK").await.unwrap();
        holder.close().await.unwrap();
        db.quiet().await;
        if left.is_empty() {
            online(&db, &[]).expect(0);
            assert_same(&state(&db), &offline(&events(100)).await);
        } else {
            // What the next holder meets: only NOT NULL and the policies are missing.
            db.sql("DROP INDEX events_tenant_id_idx; CREATE INDEX ON events (tenant_id)");
        }
    }
}

#[tokio::test]
async fn it_goes_on_once_others_are_done() {
    let db = prepared(&events(100)).await;
    let mut holder = left_open(&db, "LOCK TABLE events IN SHARE MODE").await;
    let child = started(&db, &["--lock-timeout", "200ms"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let by_name = "SELECT count(*) FROM tenancy.protected_tables";
    assert_eq!(db.sql(by_name), "0");
    holder.execute("COMMIT").await.unwrap();
    ended(child).expect(0);
    assert_same(&state(&db), &offline(&events(100)).await);
}

#[tokio::test]
async fn writers_go_on_all_the_while() {
    let db = prepared(&events(200_000)).await;
    let stop = AtomicBool::new(false);
    let child = started(&db, &["--lock-timeout", "300ms"]);
    let waited = tokio::task::spawn_blocking(move || ended(child));
    let ((a, slow_a), (b, slow_b), (c, slow_c), ()) =
        tokio::join!(writer(&db, &stop), writer(&db, &stop), writer(&db, &stop), async {
            waited.await.unwrap().expect(0);
            stop.store(true, Ordering::Relaxed);
        });
    assert_eq!(db.sql("SELECT count(*) FROM events").parse::<i64>().unwrap(), 200_000 + a + b + c);
    let longest = slow_a.max(slow_b).max(slow_c);
    assert!(a > 20 && longest < Duration::from_millis(1300), "{a} {longest:?}");
    assert_same(&state(&db), &offline(&events(10)).await);
}

#[tokio::test]
async fn a_killed_run_is_completed_by_the_next() {
    let schema = format!("{}; {}", events(60_000), EVERY_SORT);
    let wanted = offline(&schema).await;
    let db = prepared(&schema).await;
    // While the index is being built: it stays behind, not valid.
    let mut holder = left_open(&db, &format!("INSERT INTO events (tenant_id) VALUES ('{A}')")).await;
    let mut child = started(&db, &["--table", "events"]);
    db.blocked(1).await;
    child.kill().unwrap();
    child.wait().unwrap();
    holder.execute("ROLLBACK").await.unwrap();
    // Between steps: what is to be proven has been announced, and the policies are not there yet.
    holder.execute("BEGIN; LOCK TABLE tenancy.tenants IN ROW EXCLUSIVE MODE").await.unwrap();
    let mut child = started(&db, &["--table", "events", "--lock-timeout", "300ms"]);
    let built = "SELECT count(*) FROM pg_index WHERE indrelid = 'events'::regclass AND indisvalid";
    while db.sql(built) == "0" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    holder.execute("ROLLBACK").await.unwrap();
    // And wherever it happens to be.
    let mut kills = 0;
    for wait in waits(20.0, 1200.0) {
        let mut child = started(&db, &[]);
        tokio::time::sleep(wait).await;
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 2, "{kills}");
    online(&db, &[]).expect(0);
    assert_same(&state(&db), &wanted);
}

/// From so many milliseconds to so many, each a quarter longer: several are over before a run is, on a fast machine and a
/// slow one.
pub(super) fn waits(first: f64, last: f64) -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(first), |wait| Some(wait * 1.25))
        .take_while(move |wait| *wait < last)
        .map(|wait| Duration::from_millis(wait as u64))
}

/// The statements that a run can be ended before, in order.
const BEFORE: [&str; 6] =
    ["CREATE INDEX", "FOREIGN KEY", "VALIDATE.*fkey", "CHECK", "VALIDATE.*not_null", "CREATE POLICY"];

/// A run that fails at the first statement like this.
pub(super) fn fails_before(db: &Database, statement: &str, more: &[&str]) {
    db.sql(&format!(
        "CREATE FUNCTION public.enough() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF current_query() ~ '{statement}' THEN RAISE EXCEPTION 'enough'; END IF; END $$;
         CREATE EVENT TRIGGER enough ON ddl_command_start EXECUTE FUNCTION public.enough()"
    ));
    let failed = online(db, more).expect(1);
    assert!(failed.stderr.contains("enough"), "{}", failed.stderr);
    db.sql("DROP EVENT TRIGGER enough; DROP FUNCTION public.enough()");
}

#[tokio::test]
async fn what_an_ended_run_left_is_told_and_taken_away() {
    let db = prepared(&events(10)).await;
    let before = state(&db);
    for (n, statement) in BEFORE.into_iter().enumerate() {
        fails_before(&db, statement, &[]);
        let told = db.tenantctl(&["rls", "setup", "--dry-run"]).expect(0).stderr;
        let unfinished = statement.starts_with("VALIDATE");
        assert_eq!(told.contains("setup --online` completes it"), unfinished, "{statement}: {told}");
        let printed = db.tenantctl(&["rls", "teardown", "--print"]).expect(0).stdout;
        assert_eq!(printed.contains("DROP CONSTRAINT"), n > 1, "{statement}: {printed}");
        db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
        assert_same(&state(&db), &before);
    }
    // Each goes on where the one before was ended.
    for statement in BEFORE {
        fails_before(&db, statement, &[]);
    }
    let rest = online(&db, &["-o", "json"]).expect(0).json();
    assert_eq!(rest["tables"][0]["actions"][0], "owner", "the keys were there already: {rest}");
    assert_same(&state(&db), &offline(&events(10)).await);
}

#[tokio::test]
async fn indexes_that_are_not_valid_are_built_again() {
    let db = prepared(&format!(
        "{}; CREATE TABLE known (id int, tenant_id uuid); CREATE TABLE log (tenant_id uuid, n int) PARTITION BY LIST (n);
         CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);
         CREATE INDEX events_tenant_id_idx ON events (tenant_id);
         CREATE INDEX somebodys ON events (tenant_id);
         CREATE INDEX of_a_former_run ON known (tenant_id);
         CREATE INDEX log_1_tenant_id_idx ON log_1 (tenant_id);
         INSERT INTO tenancy.isolation_changes (relation, schema, kind, object, role, taken, detail)
         VALUES ('known', 0::oid::regnamespace, 'index', 'of_a_former_run', '', false, '');
         UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('events_tenant_id_idx'::regclass,
            'somebodys'::regclass, 'of_a_former_run'::regclass, 'log_1_tenant_id_idx'::regclass)",
        events(10)
    ))
    .await;
    online(&db, &[]).expect(0);
    let indexes = "SELECT string_agg(format('%s %s', indexrelid::regclass, indisvalid), ', ' ORDER BY indexrelid::regclass::text)
                     FROM pg_index WHERE indrelid IN ('events'::regclass, 'known'::regclass, 'log'::regclass, 'log_1'::regclass)";
    assert_eq!(
        db.sql(indexes),
        "events_tenant_id_idx t, log_1_tenant_id_idx t, log_tenant_id_idx t, of_a_former_run t, somebodys f",
        "what is not ours stays as it is"
    );
    assert!(db.tenantctl(&["rls", "setup"]).expect(0).stderr.contains("(unchanged)"));
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_eq!(db.sql(indexes), "somebodys f");
}

#[tokio::test]
async fn rows_in_the_way_are_told_as_offline_and_nothing_half_made_stays() {
    let schema = format!(
        "CREATE TABLE nobodys (id int, tenant_id uuid); INSERT INTO nobodys VALUES (1, NULL), (2, '{A}');
         CREATE TABLE strangers (id int, tenant_id uuid); INSERT INTO strangers VALUES (1, gen_random_uuid());
         CREATE TABLE log (tenant_id uuid, n int) PARTITION BY LIST (n);
         CREATE TABLE log_1 PARTITION OF log FOR VALUES IN (1);
         CREATE TABLE log_2 PARTITION OF log FOR VALUES IN (2);
         INSERT INTO log VALUES ('{A}', 1), (gen_random_uuid(), 2), (NULL, 2)"
    );
    let other = prepared(&schema).await;
    let offline = other.json(&["rls", "setup"]);
    let db = prepared(&schema).await;
    // As runs leave them that were ended before rows came in the way.
    db.sql(
        "ALTER TABLE nobodys ADD CONSTRAINT tenancy_online_not_null CHECK (tenant_id IS NOT NULL) NOT VALID;
         ALTER TABLE log ADD CONSTRAINT tenancy_online_not_null CHECK (tenant_id IS NOT NULL) NOT VALID;
         ALTER TABLE strangers ADD FOREIGN KEY (tenant_id) REFERENCES tenancy.tenants NOT VALID;
         ALTER TABLE log_1 ADD CONSTRAINT log_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenancy.tenants;
         INSERT INTO tenancy.isolation_changes (relation, schema, kind, object, role, taken, detail)
         VALUES ('strangers', 0::oid::regnamespace, 'constraint', 'strangers_tenant_id_fkey', '', false, ''),
                ('log_1', 0::oid::regnamespace, 'constraint', 'log_tenant_id_fkey', '', false, '')",
    );
    let online = db.json(&["rls", "setup", "--online"]);
    let notes = |done: &serde_json::Value| -> Vec<serde_json::Value> {
        done["tables"].as_array().unwrap().iter().map(|table| table["notes"].clone()).collect()
    };
    assert_eq!(notes(&online), notes(&offline));
    assert!(notes(&online)[0].to_string().contains("tenant_id stays nullable"), "{online}");
    assert_same(&state(&db), &state(&other));
}

#[tokio::test]
async fn one_at_a_time() {
    let db = prepared(&events(10)).await;
    let mut holder = left_open(&db, &format!("INSERT INTO events (tenant_id) VALUES ('{A}')")).await;
    let first = started(&db, &[]);
    db.blocked(1).await;
    let second = online(&db, &["--retries", "0"]).expect(4);
    assert!(second.stderr.contains("is at work already: pid "), "{}", second.stderr);
    let third = started(&db, &[]);
    holder.execute("ROLLBACK").await.unwrap();
    ended(first).expect(0);
    ended(third).expect(0);
    assert_eq!(
        db.sql(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
          WHERE l.locktype = 'advisory' AND d.datname = current_database()"
        ),
        "0"
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let db = prepared(&events(10)).await;
    let before = state(&db);
    db.refused(2, &["rls", "setup", "--online", "--context", "sealed"]);
    db.refused(2, &["rls", "setup", "--online", "--lock-timeout", "0"]);
    db.refused(2, &["rls", "setup", "--retries", "3"]);
    db.refused(3, &["rls", "setup", "--online", "--table", "evnts"]);
    db.refused(2, &["rls", "setup", "--online", "--table", "pg_stats"]);
    let mut off = db.command();
    off.env("ENABLE_TENANT_ISOLATION", "false").args(["rls", "setup", "--online"]);
    run(&mut off).expect(10);
    assert_same(&state(&db), &before);
}

#[tokio::test]
async fn a_plain_migrator_sets_up_its_own_tables() {
    let db = prepared("").await;
    let role = format!("{}_Online \"migrator", db.name);
    let quoted = tenancy::db::quote::ident(&role);
    db.sql(&format!(
        "CREATE ROLE {quoted} LOGIN; GRANT tenancy_owner TO {quoted}; CREATE SCHEMA shop AUTHORIZATION {quoted}"
    ));
    let mut connection = db.options.connect().await.unwrap();
    let become_it = format!(
        "SET SESSION AUTHORIZATION {quoted}; CREATE TABLE shop.orders (id serial PRIMARY KEY, tenant_id uuid);
         INSERT INTO shop.orders (tenant_id) VALUES ('{A}'), ('{B}')"
    );
    connection.execute(AssertSqlSafe(become_it)).await.unwrap();
    let mut watcher = db.options.connect().await.unwrap();
    let mut session = Session::new(connection);
    let mut told = Vec::new();
    let mut observe = |event: online::Event<'_>| {
        if let online::Event::Step { statement, .. } = event {
            told.push(statement.to_owned());
        }
    };
    let done =
        online::setup(&mut session, &mut watcher, &named("shop.orders"), Pace::default(), &mut observe)
            .await
            .unwrap();
    assert!(done.changed() && done.tables[0].notes.is_empty(), "{done:?}");
    assert_eq!(told[0], r#"CREATE INDEX CONCURRENTLY "orders_tenant_id_idx" ON shop.orders ("tenant_id")"#);
    let again = setup(session.connection(), &named("shop.orders")).await.unwrap();
    assert!(!again.changed());
    let path: String = session.connection().fetch_one("SHOW search_path").await.unwrap().get(0);
    assert_eq!(path, "\"$user\", public", "what it set is as it was");
    assert_eq!(
        db.sql("SELECT relowner::regrole FROM pg_class WHERE oid = 'shop.orders'::regclass"),
        "tenancy_owner"
    );
    drop(session);
    db.sql(&format!("DROP SCHEMA shop CASCADE; DROP OWNED BY {quoted}; DROP ROLE {quoted}"));
}

#[tokio::test]
async fn a_hostile_search_path_changes_nothing_online() {
    let schema = format!(
        "{}; CREATE SCHEMA evil; CREATE TABLE evil.pg_class (oid oid); CREATE TABLE evil.pg_constraint (oid oid);
         CREATE TABLE evil.pg_inherits (oid oid); CREATE TABLE evil.pg_stat_activity (pid int);
         CREATE FUNCTION evil.yes(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR evil.= (FUNCTION = evil.yes, LEFTARG = uuid, RIGHTARG = uuid)",
        events(10)
    );
    let db = prepared(&schema).await;
    db.sql(&format!("ALTER DATABASE {} SET search_path = evil, public, pg_catalog", db.name));
    online(&db, &["--print"]).expect(0);
    online(&db, &[]).expect(0);
    db.sql(&format!("ALTER DATABASE {} RESET search_path", db.name));
    assert_same(&state(&db), &offline(&schema).await);
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
}
