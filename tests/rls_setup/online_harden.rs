//! `rls setup --online --harden` leaves what the offline hardening leaves, keeps nobody waiting, and goes on where it was ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Executor};
use tenancy::db::Session;
use tenancy::rls::online::{self, Pace};
use tenancy::rls::{Options, Severity};

use super::names::{assert_same, state};
use super::online::{ended, fails_before, left_open, prepared, started, waits};
use super::*;
use crate::common::{Database, Run, verify};

/// References of every sort, beside the unique keys of every sort.
const REFERENCES: &str = r#"
    CREATE TABLE par (id int PRIMARY KEY, tenant_id uuid, x text, "Co de" text UNIQUE, up int REFERENCES par ON DELETE SET NULL);
    CREATE TABLE "kid ""2" (id int PRIMARY KEY, tenant_id uuid, x text, par int REFERENCES par ON DELETE CASCADE, par2 int REFERENCES par,
        code text, CONSTRAINT "by Code" FOREIGN KEY (code) REFERENCES par ("Co de") ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE split (id int, tenant_id uuid NOT NULL, par int REFERENCES par, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (1) TO (1000);
    CREATE TABLE part (id int NOT NULL, tenant_id uuid NOT NULL, split int REFERENCES split);
    CREATE TABLE deep (tenant_id uuid NOT NULL, n text, m text, UNIQUE (n, m) INCLUDE (tenant_id) WITH (fillfactor = 70))
        PARTITION BY LIST (n);
    CREATE TABLE inner_a PARTITION OF deep FOR VALUES IN ('a') PARTITION BY LIST (m);
    CREATE TABLE "deep Ünï éééééééééééééééééééééé '" PARTITION OF inner_a FOR VALUES IN ('a');
    CREATE TABLE deep_b PARTITION OF deep FOR VALUES IN ('b');
    CREATE TABLE deep_b_tenant_id_n_m_key (x int);
    CREATE TABLE deep_c (tenant_id uuid NOT NULL, m text, n text, CONSTRAINT deep_c_tenant_id_n_m_tenant_id1_key UNIQUE (n, m) INCLUDE (tenant_id));
    ALTER TABLE deep ATTACH PARTITION deep_c FOR VALUES IN ('c');
    CREATE UNIQUE INDEX ON deep (n, m, lower(m), upper(m)) WHERE m > 'a' AND n > 'a';
    CREATE UNIQUE INDEX of_b ON deep (n, m, upper(m), (m || 'x'), (m || 'y'));
    CREATE TABLE par_tenant_id_id_key (x int);
    CREATE VIEW plain AS SELECT * FROM par;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
    INSERT INTO par SELECT g, 'aaaaaaaa-0000-4000-8000-000000000000', 'x', g::text, g FROM generate_series(1, 50) g;
    INSERT INTO "kid ""2" SELECT g, 'aaaaaaaa-0000-4000-8000-000000000000', 'x', g, g, g::text FROM generate_series(1, 50) g;
    INSERT INTO split SELECT g, 'aaaaaaaa-0000-4000-8000-000000000000', g FROM generate_series(1, 50) g;
    INSERT INTO kinds (id, num, tenant_id, email, b, room, during)
        SELECT g, g, 'bbbbbbbb-0000-4000-8000-000000000000', g::text, g, g, '[2026-01-01, 2026-01-03)' FROM generate_series(1, 50) g;
    INSERT INTO kid (id, tenant_id, email) SELECT g, 'bbbbbbbb-0000-4000-8000-000000000000', g::text FROM generate_series(1, 50) g;
    GRANT TRUNCATE, TRIGGER ON par TO PUBLIC, pg_monitor"#;

async fn every_sort() -> String {
    let version = Database::empty().await.sql("SHOW server_version_num");
    let newer = if version.parse::<u32>().unwrap() >= 180_000 { super::keys::NEWER } else { "" };
    format!("{}; {newer}; {REFERENCES}", super::keys::KEYS)
}

fn hardened(db: &Database, more: &[&str]) -> Run {
    db.tenantctl(&[&["rls", "setup", "--online", "--harden"], more].concat())
}

/// [`state`], and what else goes with keys, tables and the database.
fn all(db: &Database) -> String {
    let more = db.sql(
            "SELECT format('index %s %s %s %s %s %s', i.indexrelid::regclass, i.indisreplident, i.indisclustered, c.reloptions, c.reltablespace,
                           obj_description(i.indexrelid, 'pg_class')) AS line
               FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid >= 16384 AND c.relname !~ '^pg_toast'
             UNION ALL
             SELECT format('constraint %s %s %s %s %s', conrelid::regclass, conname, convalidated, CASE WHEN contype <> 'f' THEN conindid END::regclass,
                           obj_description(oid, 'pg_constraint'))
               FROM pg_constraint WHERE conrelid >= 16384
             UNION ALL
             SELECT format('trigger %s', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal
             UNION ALL
             SELECT format('view %s %s', oid::regclass, reloptions) FROM pg_class WHERE relkind = 'v' AND relnamespace = 'public'::regnamespace
             UNION ALL
             SELECT format('rights %s', x) FROM pg_database, unnest(coalesce(datacl, acldefault('d', datdba))) x WHERE datname = current_database()
             UNION ALL
             SELECT format('default %s', x) FROM pg_default_acl, unnest(defaclacl) x
             ORDER BY 1",
        );
    format!("{}\n{more}", state(db)).replace(&db.name, "database")
}

async fn offline(schema: &str) -> String {
    let db = prepared(schema).await;
    db.tenantctl(&["rls", "setup", "--harden"]).expect(0);
    all(&db)
}

/// What was done or would be, a line for each statement. What several tables need is done with the first.
fn statements(run: &Run) -> String {
    let tables = run.json()["tables"].as_array().unwrap().clone();
    let mut lines = Vec::new();
    for table in tables {
        for statement in table["statements"].as_array().unwrap() {
            let line = format!("{} {}", table["table"], statement.as_str().unwrap().replace('\n', " "));
            if !line.contains(" ON SCHEMA ") {
                lines.push(line);
            }
        }
    }
    lines.join("\n")
}

#[tokio::test]
async fn the_outcome_is_that_of_the_offline_hardening() {
    let schema = every_sort().await;
    let db = prepared(&schema).await;
    let before = all(&db);
    let dry = hardened(&db, &["--dry-run", "-o", "json"]).expect(0);
    assert_same(&all(&db), &before);
    let script = hardened(&db, &["--print"]).expect(0).stdout;
    assert_same(&all(&db), &before);
    for key in ["booked", "apart", r#""Num ""x""#] {
        let note = format!("-- note: unique key {key} is built anew while the table is locked");
        assert!(script.contains(&note), "{key}: {script}");
    }

    let wanted = offline(&schema).await;
    let done = hardened(&db, &["-o", "json"]).expect(0);
    assert_same(&all(&db), &wanted);
    // The plan is what the run does.
    assert_same(&statements(&dry), &statements(&done));
    let again = hardened(&db, &[]).expect(0);
    assert!(again.stderr.contains("protected already (unchanged)"), "{}", again.stderr);
    let again = db.tenantctl(&["rls", "setup", "--harden"]).expect(0);
    assert!(again.stderr.contains("protected already (unchanged)"), "{}", again.stderr);
    assert_same(&all(&db), &wanted);
    let report = verify(&db.options, &Options::default()).await.unwrap();
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Note), "{report:#?}");

    // What goes on offline, its notes too, is what it says.
    let other = prepared(&schema).await;
    let offline_notes = other.json(&["rls", "setup", "--harden"]);
    let notes = |report: &serde_json::Value| -> Vec<(String, serde_json::Value)> {
        let tables = report["tables"].as_array().unwrap();
        tables.iter().map(|table| (table["table"].to_string(), table["notes"].clone())).collect()
    };
    assert_eq!(notes(&done.json()), notes(&offline_notes));
    db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    other.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    assert_same(&all(&db), &all(&other));

    // A person can run it just as well; only nothing is written down then.
    let by_hand = prepared(&schema).await;
    let file = std::env::temp_dir().join(format!("tenancy-online-harden-{}.sql", std::process::id()));
    std::fs::write(&file, script.replace(&db.name, &by_hand.name)).unwrap();
    by_hand.psql(&["--file", file.to_str().unwrap()]).expect(0);
    std::fs::remove_file(&file).unwrap();
    let without_records =
        |state: &str| state.lines().filter(|l| !l.starts_with("changed ")).collect::<Vec<_>>().join("\n");
    assert_same(&without_records(&all(&by_hand)), &without_records(&wanted));
}

/// The statements that a run can be ended before, in order.
const BEFORE: [&str; 9] = [
    "CREATE UNIQUE INDEX CONCURRENTLY.*kinds",
    "booked",
    "DROP INDEX.*by_email",
    "REPLICA IDENTITY",
    "ADD CONSTRAINT .*pkey.* USING INDEX",
    "VALIDATE.*Fk 1",
    "ADD CONSTRAINT .*par_tenant_id_id_key1",
    "VALIDATE.*par_up_fkey",
    "CREATE TRIGGER tenant_immutable",
];

#[tokio::test]
async fn what_an_ended_run_left_is_completed_or_taken_away() {
    let schema = every_sort().await;
    let other = prepared(&schema).await;
    other.tenantctl(&["rls", "setup", "--harden"]).expect(0);
    let wanted = all(&other);
    other.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
    let torn = all(&other);
    let db = prepared(&schema).await;
    for statement in ["booked", "ADD CONSTRAINT .*pkey.* USING INDEX", "VALIDATE.*par_up_fkey"] {
        fails_before(&db, statement, &["--harden"]);
        db.tenantctl(&["rls", "teardown", "--yes"]).expect(0);
        assert_same(&all(&db), &torn);
    }
    // Each goes on where the one before was ended.
    for (n, statement) in BEFORE.into_iter().enumerate() {
        fails_before(&db, statement, &["--harden"]);
        let told = db.tenantctl(&["rls", "setup", "--dry-run"]).expect(0).stderr;
        let unfinished = (1..8).contains(&n);
        assert_eq!(told.contains("setup --online --harden` completes it"), unfinished, "{statement}: {told}");
    }
    hardened(&db, &[]).expect(0);
    assert_same(&all(&db), &wanted);
    assert!(hardened(&db, &[]).expect(0).stderr.contains("(unchanged)"));
}

#[tokio::test]
async fn a_killed_hardening_is_completed_by_the_next() {
    let schema = format!(
        "{}; INSERT INTO par SELECT g, 'aaaaaaaa-0000-4000-8000-000000000000', 'x', g::text FROM generate_series(100, 30000) g",
        every_sort().await
    );
    let wanted = offline(&schema).await;
    let db = prepared(&schema).await;
    db.tenantctl(&["rls", "setup", "--online"]).expect(0);
    // While an index is being built: it stays behind, not valid.
    let mut holder = left_open(&db, &format!("INSERT INTO par VALUES (-1, '{A}')")).await;
    let mut child = started(&db, &["--harden"]);
    let left = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
                 WHERE NOT indisvalid AND relname ~ '^tenancy_online_key' AND indrelid = 'par'::regclass";
    while db.sql(left) != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    db.quiet().await;
    assert_eq!(db.sql(left), "1");
    holder.execute("ROLLBACK").await.unwrap();
    // And wherever it happens to be.
    let mut kills = 0;
    for wait in waits(60.0, 3000.0) {
        let mut child = started(&db, &["--harden"]);
        tokio::time::sleep(wait).await;
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 2, "{kills}");
    hardened(&db, &[]).expect(0);
    assert_same(&all(&db), &wanted);
    assert!(hardened(&db, &[]).expect(0).stderr.contains("(unchanged)"));
}

/// Inserts rows into both tables, one after the other until told to stop; how many, and the longest that one took.
async fn writer(db: &Database, from: i32, stop: &AtomicBool) -> (i32, Duration) {
    let mut connection = db.options.connect().await.unwrap();
    let (mut rows, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let id = from + rows;
        let statement = if rows % 2 == 0 {
            format!("INSERT INTO big VALUES ({id}, '{A}', 'c{id}', {id})")
        } else {
            format!("INSERT INTO small VALUES ({id}, '{A}', {}, 'c{}')", id - 1, id - 1)
        };
        let begun = Instant::now();
        connection.execute(AssertSqlSafe(statement)).await.unwrap();
        longest = longest.max(begun.elapsed());
        rows += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (rows, longest)
}

/// Two tables, the one with so many rows.
fn busy(rows: u32) -> String {
    format!(
        "CREATE TABLE big (id int PRIMARY KEY, tenant_id uuid, code text UNIQUE, n int);
         CREATE UNIQUE INDEX by_n ON big (n) WHERE n > 0;
         CREATE TABLE small (id int PRIMARY KEY, tenant_id uuid, big int REFERENCES big, code text REFERENCES big (code));
         INSERT INTO big SELECT g, '{A}', 'c' || g, g FROM generate_series(1, {rows}) g;
         INSERT INTO small SELECT g, '{A}', g, 'c' || g FROM generate_series(1, {rows}) g"
    )
}

#[tokio::test]
async fn writers_go_on_while_keys_are_replaced() {
    let db = prepared(&busy(100_000)).await;
    let stop = AtomicBool::new(false);
    let child = started(&db, &["--harden", "--lock-timeout", "300ms"]);
    let waited = tokio::task::spawn_blocking(move || ended(child));
    let ((a, slow_a), (b, slow_b), ()) =
        tokio::join!(writer(&db, 1_000_000, &stop), writer(&db, 2_000_000, &stop), async {
            waited.await.unwrap().expect(0);
            stop.store(true, Ordering::Relaxed);
        });
    assert_eq!(
        db.sql("SELECT (SELECT count(*) FROM big) + (SELECT count(*) FROM small)"),
        (200_000 + a + b).to_string()
    );
    let longest = slow_a.max(slow_b);
    assert!(a > 20 && longest < Duration::from_millis(1300), "{a} {longest:?}");
    assert_same(&all(&db), &offline(&busy(10)).await);
}

#[tokio::test]
async fn nobody_queues_behind_a_hardening_that_waits() {
    let db = prepared(&busy(1000)).await;
    db.tenantctl(&["rls", "setup", "--online"]).expect(0);
    let patient = ["--harden", "--retries", "1", "--lock-timeout", "500ms"];
    // The index can be built, and cannot take the place of the old one.
    let mut holder = left_open(&db, "SELECT FROM small").await;
    let stop = AtomicBool::new(false);
    let child = started(&db, &patient);
    let waited = tokio::task::spawn_blocking(move || ended(child));
    let (wrote, run) = tokio::join!(writer(&db, 1_000_000, &stop), async {
        let run = waited.await.unwrap();
        stop.store(true, Ordering::Relaxed);
        run
    });
    let run = run.expect(4);
    assert!(run.stderr.contains("application forgotten"), "{}", run.stderr);
    assert!(wrote.0 > 20 && wrote.1 < Duration::from_millis(1500), "{wrote:?}");
    holder.execute("ROLLBACK").await.unwrap();
    hardened(&db, &[]).expect(0);
    assert_same(&all(&db), &offline(&busy(10)).await);
}

#[tokio::test]
async fn keys_that_were_built_ahead_are_used_or_replaced() {
    let schema = busy(100);
    let db = prepared(&schema).await;
    fails_before(&db, "ADD CONSTRAINT.* USING INDEX", &["--harden"]);
    let spares = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = indexrelid WHERE indisvalid AND relname ~ '^tenancy_online_key'";
    assert_eq!(db.sql(spares), "2");
    // One is broken, one is as it should be, one is of another making, and one nobody needs any more.
    db.sql(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = (SELECT min(oid) FROM pg_class WHERE relname ~ '^tenancy_online_key');
         DO $$ DECLARE name text := 'tenancy_online_key_' || (SELECT oid FROM pg_constraint WHERE conname = 'small_big_fkey');
         BEGIN
             EXECUTE format('CREATE UNIQUE INDEX %I ON big (id, tenant_id)', name);
             CREATE UNIQUE INDEX tenancy_online_key_1 ON big (n, id);
             INSERT INTO tenancy.isolation_changes (relation, schema, kind, object, role, taken, detail)
             VALUES ('big', 0::oid::regnamespace, 'index', name, '', false, ''),
                    ('big', 0::oid::regnamespace, 'index', 'tenancy_online_key_1', '', false, '');
         END $$",
    );
    let script = hardened(&db, &["--print"]).expect(0).stdout;
    assert_eq!(script.matches("DROP INDEX CONCURRENTLY").count(), 3, "{script}");
    hardened(&db, &[]).expect(0);
    assert_same(&all(&db), &offline(&schema).await);
}

#[tokio::test]
async fn rows_in_the_way_are_told_and_mended() {
    let schema = format!(
        "{}; INSERT INTO big VALUES (-1, '{B}', 'b', -1); UPDATE small SET big = -1 WHERE id = 1;
         CREATE TABLE nobodys (id int, tenant_id uuid, code text PRIMARY KEY); INSERT INTO nobodys VALUES (1, NULL, 'c')",
        busy(100)
    );
    let db = prepared(&schema).await;
    let other = prepared(&schema).await;
    let dry = db.json(&["rls", "setup", "--online", "--harden", "--dry-run"]);
    let (done, wanted) =
        (db.json(&["rls", "setup", "--online", "--harden"]), other.json(&["rls", "setup", "--harden"]));
    let notes = |report: &serde_json::Value| -> Vec<serde_json::Value> {
        report["tables"].as_array().unwrap().iter().map(|table| table["notes"].clone()).collect()
    };
    assert_eq!(notes(&done), notes(&wanted));
    assert_eq!(notes(&dry), notes(&wanted));
    assert!(done.to_string().contains("1 row points at a row of another tenant"), "{done}");
    assert_same(&all(&db), &all(&other));

    // One that comes once the reference is replaced, past it.
    db.sql("UPDATE small SET big = 1 WHERE id = 1");
    fails_before(&db, "VALIDATE.*small_big_fkey", &["--harden"]);
    db.sql("SET session_replication_role = replica; UPDATE small SET big = -1 WHERE id = 1");
    let told = hardened(&db, &[]).expect(0).stderr;
    assert!(told.contains("reference \"small_big_fkey\" holds for new rows"), "{told}");
    db.sql("SET session_replication_role = replica; UPDATE small SET big = 1 WHERE id = 1");
    hardened(&db, &[]).expect(0);
    other.sql("UPDATE small SET big = 1 WHERE id = 1");
    other.tenantctl(&["rls", "setup", "--harden"]).expect(0);
    assert_same(&all(&db), &all(&other));
}

#[tokio::test]
async fn a_plain_migrator_hardens_what_it_sees() {
    let db = prepared("").await;
    let role = format!("{}_Harden \"migrator", db.name);
    let quoted = tenancy::db::quote::ident(&role);
    db.sql(&format!(
        "CREATE ROLE {quoted} LOGIN; GRANT tenancy_owner TO {quoted}; CREATE SCHEMA shop AUTHORIZATION {quoted}"
    ));
    let mut connection = db.options.connect().await.unwrap();
    let become_it = format!(
        "SET SESSION AUTHORIZATION {quoted}; CREATE TABLE shop.orders (id serial PRIMARY KEY, tenant_id uuid, code text UNIQUE, nr text UNIQUE,
             up text REFERENCES shop.orders (nr)); GRANT TRUNCATE ON shop.orders TO tenancy_app, tenancy_auditor;
         INSERT INTO shop.orders (tenant_id, code) VALUES ('{A}', 'a'), ('{B}', 'b')"
    );
    connection.execute(AssertSqlSafe(become_it)).await.unwrap();
    let mut watcher = db.options.connect().await.unwrap();
    let mut session = Session::new(connection);
    let options = Setup { harden: true, ..named("shop.orders") };
    let (plan, _) = online::plan(session.connection(), &options, Pace::default()).await.unwrap();
    let done =
        online::setup(&mut session, &mut watcher, &options, Pace::default(), &mut |_| ()).await.unwrap();
    assert_eq!(plan, done, "the plan is what the run does");
    // Policies bind it by now: it cannot tell whether rows cross.
    let notes = &done.tables[0].notes;
    assert!(notes.iter().any(|note| note.contains("cannot see all rows")), "{notes:?}");
    assert_eq!(
        db.sql("SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'shop.orders'::regclass AND contype = 'u'"),
        "UNIQUE (tenant_id, code); UNIQUE (nr)"
    );
    assert!(
        !online::setup(&mut session, &mut watcher, &options, Pace::default(), &mut |_| ())
            .await
            .unwrap()
            .changed()
    );
    drop(session);
    db.sql(&format!("DROP SCHEMA shop CASCADE; DROP OWNED BY {quoted}; DROP ROLE {quoted}"));
}

#[tokio::test]
async fn a_hostile_search_path_changes_nothing_of_a_hardening() {
    let schema = format!(
        "{}; CREATE SCHEMA evil; CREATE TABLE evil.pg_class (oid oid); CREATE TABLE evil.pg_constraint (oid oid);
         CREATE TABLE evil.pg_index (oid oid); CREATE TABLE evil.pg_namespace (oid oid); CREATE TABLE evil.pg_roles (oid oid);
         CREATE FUNCTION evil.pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         CREATE FUNCTION evil.yes(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR evil.= (FUNCTION = evil.yes, LEFTARG = text, RIGHTARG = text)",
        busy(10)
    );
    let db = prepared(&schema).await;
    db.sql(&format!("ALTER DATABASE {} SET search_path = evil, public, pg_catalog", db.name));
    hardened(&db, &["--print"]).expect(0);
    fails_before(&db, "VALIDATE.*small_code_fkey", &["--harden"]);
    hardened(&db, &[]).expect(0);
    db.sql(&format!("ALTER DATABASE {} RESET search_path", db.name));
    assert_same(&all(&db), &offline(&schema).await);
}

#[tokio::test]
async fn one_table_takes_the_key_that_it_needs_from_another() {
    let (db, other) = (prepared(&busy(10)).await, prepared(&busy(10)).await);
    for (db, how) in [(&db, &["--online"][..]), (&other, &[])] {
        db.tenantctl(&["rls", "setup"]).expect(0);
        db.tenantctl(&[&["rls", "setup", "--harden", "--table", "small"], how].concat()).expect(0);
    }
    assert_same(&all(&db), &all(&other));
    for (db, how) in [(&db, &["--online"][..]), (&other, &[])] {
        db.tenantctl(&[&["rls", "setup", "--harden"], how].concat()).expect(0);
    }
    assert_same(&all(&db), &all(&other));
}

#[tokio::test]
async fn a_transaction_of_others_is_not_ended_for_a_deadlock() {
    let db = prepared(&busy(10)).await;
    db.tenantctl(&["rls", "setup", "--online"]).expect(0);
    fails_before(&db, "ADD CONSTRAINT.* USING INDEX", &["--harden"]);
    let mut other = left_open(&db, &format!("INSERT INTO big VALUES (100, '{A}', 'c100', 100)")).await;
    let child = started(&db, &["--harden", "--lock-timeout", "4s"]);
    // It holds the one table and waits for the other, for longer than it takes to look for a deadlock.
    let holds = "SELECT count(*) FROM pg_locks WHERE relation = 'small'::regclass AND mode = 'AccessExclusiveLock' AND granted";
    while db.sql(holds) == "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(1200)).await;
    other
        .execute(AssertSqlSafe(format!("INSERT INTO small VALUES (100, '{A}', 100, 'c100')")))
        .await
        .unwrap();
    other.execute("COMMIT").await.unwrap();
    ended(child).expect(0);
    assert_same(&all(&db), &offline(&busy(10)).await);
}

#[tokio::test]
async fn what_is_deferred_goes_on_being_deferred() {
    let schema = format!(
        "CREATE TABLE items (id int PRIMARY KEY, tenant_id uuid, n int UNIQUE DEFERRABLE, m int UNIQUE);
         INSERT INTO items SELECT g, '{A}', g, g FROM generate_series(1, 50) g"
    );
    let db = prepared(&schema).await;
    // What is built ahead stands by then.
    fails_before(&db, "items_m_key.* USING INDEX", &["--harden"]);
    db.sql("UPDATE items SET n = n + 1");
    hardened(&db, &[]).expect(0);
    db.sql("UPDATE items SET n = n + 1");
    assert_same(&all(&db), &offline(&schema).await);
}
