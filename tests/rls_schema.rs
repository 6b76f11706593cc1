//! `rls verify --schema` and `--migrations`: files instead of a database, on a private server of the command's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tenancy::ErrorKind;
use tenancy::rls::Options;
use tenancy::rls::report::Verdict;
use tenancy::rls::source::{self, SqlFile, Style};

use crate::common::{self, Database, Run};

const TABLE: &str = "CREATE TABLE notes (tenant_id uuid NOT NULL, id int PRIMARY KEY);
CREATE INDEX ON notes (tenant_id);
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO \"web app\";
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes FORCE ROW LEVEL SECURITY;
";
const OPEN: &str = "CREATE POLICY tenant ON notes TO \"web app\" USING (true);\n";
const CLOSE: &str = "ALTER POLICY tenant ON notes
USING (tenant_id = nullif(current_setting('app.current_tenant_id', true), '')::uuid);\n";

/// Files in a directory that goes with the test.
fn files(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }
    dir
}

/// Verifies files of a directory, with nothing that names a database.
fn verify(dir: &TempDir, arguments: &[&str]) -> Run {
    let mut command = common::tenantctl();
    command.current_dir(dir.path()).args(["rls", "verify", "--strict"]).args(arguments);
    common::run(&mut command)
}

fn web(dir: &TempDir, arguments: &[&str]) -> Run {
    verify(dir, &[arguments, &["--role", "web app"]].concat())
}

/// The migrations leave the table open to all until the last one; they must pass. The role is the test's own, on the
/// server that the tests share.
async fn passes(listed: &[(&str, &str)], dir: &str, manner: Style, number: usize) {
    let database = Database::empty().await;
    let role = format!("{} web", database.name);
    let listed: Vec<_> = listed.iter().map(|(name, text)| (*name, text.replace("web app", &role))).collect();
    let written = files(&listed.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
    let (style, read) = source::migrations(&written.path().join(dir)).expect("migrations");
    assert_eq!((style, read.len()), (manner, number));
    let applied = source::apply(&database.options, &read, "tenancy", &|_, _| {}).await.expect("they apply");
    let options = Options { app_roles: vec![role], ..Options::default() };
    let report = tenancy::rls::verify(&applied.options, &options).await.expect("a report");
    assert_eq!(report.tables[0].verdict, Verdict::Proven, "{report:#?}");
    assert!(report.attempts.tried > 0, "{report:#?}");
}

/// What an error says, which has to be one of wrong input.
#[track_caller]
fn wrong(run: Run, says: &[&str]) {
    let stderr = run.expect(2).stderr;
    assert!(says.iter().all(|words| stderr.contains(words)), "{says:?}: {stderr}");
}

#[test]
fn a_clean_file_passes_and_a_leak_does_not() {
    let dir = files(&[("a.sql", TABLE), ("b.sql", OPEN), ("c.sql", CLOSE)]);
    let clean = web(&dir, &["--schema", "a.sql", "b.sql", "c.sql"]).expect(0);
    assert!(clean.stdout.contains("passed: 1 table, 1 proven"), "{}", clean.stdout);
    assert!(clean.stderr.contains("applied 7 statements from 3 files"), "{}", clean.stderr);
    assert!(
        clean.stderr.contains("made the roles that the files name and do not make: web app"),
        "{}",
        clean.stderr
    );

    // A database that the environment names is not looked at.
    let mut command = common::tenantctl();
    command
        .env("TENANTCTL_URL", "postgres://nowhere.invalid/db")
        .current_dir(dir.path())
        .args(["rls", "verify", "--schema", "a.sql", "--schema", "b.sql", "--role", "web app", "-o", "json"]);
    let leaky = common::run(&mut command).expect(5).json();
    let found = leaky["findings"].as_array().expect("findings").iter().find(|f| f["source"] == "probe");
    assert_eq!(found.expect("a leak that a probe saw")["object"], "public.notes", "{leaky}");
}

#[tokio::test]
async fn sqlx() {
    passes(
        &[
            ("9_open.up.sql", OPEN),
            ("9_open.down.sql", "DROP POLICY tenant ON notes;"),
            ("1_table.up.sql", TABLE),
            ("1_table.down.sql", "DROP TABLE notes;"),
            ("10_close.sql", CLOSE),
            ("11_index.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY other ON notes (tenant_id, id);"),
        ],
        "",
        Style::Sqlx,
        4,
    )
    .await;
}

#[tokio::test]
async fn flyway() {
    passes(
        &[
            ("db/V1__table.sql", TABLE),
            ("db/V1.10__close.sql", CLOSE),
            ("db/sub/V1_9__open.sql", OPEN),
            ("db/R__index.sql", "CREATE INDEX CONCURRENTLY IF NOT EXISTS other ON notes (tenant_id, id);"),
            ("db/U1__table.sql", "DROP TABLE notes;"),
        ],
        "db",
        Style::Flyway,
        4,
    )
    .await;
}

#[tokio::test]
async fn numbered_files_and_the_way_back() {
    let table = format!("-- migrate:up\n{TABLE}\n-- migrate:down\nDROP TABLE notes;\n");
    passes(&[("10.sql", CLOSE), ("9-open.sql", OPEN), ("1-table.sql", &table)], "", Style::Numbered, 3).await;
}

#[tokio::test]
async fn rails() {
    let structure = format!(
        "SET client_encoding = 'UTF8';\n{TABLE}{OPEN}{CLOSE}INSERT INTO schema_migrations VALUES ('1');"
    );
    let listed = format!("CREATE TABLE public.schema_migrations (version varchar NOT NULL);\n{structure}");
    passes(&[("db/structure.sql", &listed), ("db/migrate/1_a.rb", "")], "db/structure.sql", Style::Rails, 1)
        .await;
}

const SUPABASE_TABLES: &str = "create extension if not exists pgcrypto with schema extensions;
create table public.organizations (id uuid primary key default extensions.gen_random_uuid(), name text not null);
create table public.members (
    org_id uuid not null references public.organizations on delete cascade,
    user_id uuid not null references auth.users on delete cascade, primary key (org_id, user_id));
create table public.projects (
    id bigint generated always as identity primary key,
    org_id uuid not null references public.organizations on delete cascade, title text not null);
create index on public.projects (org_id);
revoke truncate, references, trigger on all tables in schema public from anon, authenticated;
alter publication supabase_realtime add table public.projects;
insert into storage.buckets (id, name) values ('files', 'files');
create policy own_files on storage.objects to authenticated
    using (bucket_id = 'files' and (storage.foldername(name))[1] = (select auth.uid())::text);
";
const SUPABASE_POLICIES: &str = "alter table public.organizations enable row level security;
alter table public.members enable row level security;
create policy own on public.members for select to authenticated using (user_id = (select auth.uid()));
create policy mine on public.organizations for select to authenticated
    using (id in (select org_id from public.members where user_id = (select auth.uid())));
create policy mine on public.projects to authenticated
    using (org_id in (select org_id from public.members where user_id = (select auth.uid())));
";
const SUPABASE_CONTRACT: &str = r#"
tenant_column: org_id
tables: {public.organizations: id}
schemas: [public]
app_roles: [authenticated]
admin_roles: [service_role]
context:
  set:
    - SELECT set_config('request.jwt.claim.sub', '{user}', true)
    - >-
      SELECT set_config('request.jwt.claims', '{"sub": "{user}", "role": "{role}"}', true)
  prepare:
    - INSERT INTO auth.users (id) VALUES ('{user}')
    - INSERT INTO public.members (org_id, user_id) VALUES ('{tenant}', '{user}')
"#;

#[test]
fn supabase() {
    let dir = files(&[
        ("supabase/migrations/20260102000000_policies.sql", SUPABASE_POLICIES),
        ("supabase/migrations/20260101000000_tables.sql", SUPABASE_TABLES),
        ("isolation.yaml", SUPABASE_CONTRACT),
    ]);
    let leaky =
        ["--migrations", "supabase", "--contract", "isolation.yaml", "--fail-on", "error", "-o", "json"];
    // Nobody switched it on for this table, and Supabase lets everybody at it by default.
    let run = verify(&dir, &leaky).expect(5);
    assert!(
        run.stderr.contains("(Supabase)") && run.stderr.contains("written for Supabase"),
        "{}",
        run.stderr
    );
    let report = run.json();
    let findings = report["findings"].as_array().expect("findings");
    let errors: Vec<_> = findings.iter().filter(|finding| finding["severity"] == "error").collect();
    assert!(
        !errors.is_empty() && errors.iter().all(|finding| finding["object"] == "public.projects"),
        "{errors:#?}"
    );

    let mend = "alter table public.projects enable row level security;";
    fs::write(dir.path().join("supabase/migrations/20260103000000_mend.sql"), mend).expect("a file");
    let report = verify(&dir, &leaky).expect(0).json();
    let tables = report["tables"].as_array().expect("tables");
    assert_eq!(tables.len(), 3, "{report}");
    assert!(tables.iter().all(|table| table["verdict"] == "proven" && table["tried"] != 0), "{report}");
}

#[test]
fn roles_are_there_when_they_are_named() {
    let script = format!(
        "BEGIN;
ALTER DEFAULT PRIVILEGES FOR ROLE \"the owner\" GRANT SELECT ON TABLES TO reader;
CREATE SCHEMA data AUTHORIZATION \"the owner\";
SET LOCAL ROLE \"the owner\";
CREATE TABLE data.mine ();
RESET ROLE;
ALTER TABLE data.mine OWNER TO \"it\"\"s\";
SAVEPOINT here;
DROP TABLE data.mine;
ROLLBACK TO SAVEPOINT here;
COMMIT;
GRANT CONNECT, TEMPORARY ON DATABASE \"My App\" TO reader;
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'careful') THEN CREATE ROLE careful; END IF;
    IF (SELECT relowner <> 'it\"s'::regrole FROM pg_class WHERE oid = 'data.mine'::regclass) THEN RAISE 'the owner is wrong'; END IF;
END $$;
GRANT USAGE ON SCHEMA data TO e;
CREATE ROLE e CONNECTION LIMIT 3;
CREATE ROLE writer BYPASSRLS PASSWORD 'hunter2';
GRANT writer, careful TO \"web app\";
{TABLE}{OPEN}{CLOSE}REVOKE writer FROM \"web app\";
CREATE USER \"web app\" CONNECTION LIMIT 7;
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'web app' AND rolcanlogin AND rolconnlimit = 7) THEN
        RAISE 'it is not what it was made';
    END IF;
END $$;
"
    );
    let run = web(&files(&[("a.sql", &script)]), &["--schema", "a.sql"]).expect(0);
    assert!(run.stderr.contains("do not make: it\"s, reader, the owner\n"), "{}", run.stderr);
}

/// What applying a file says, on the server that the tests share.
async fn error(database: &Database, text: &str, transaction: bool) -> tenancy::Error {
    let file = SqlFile { name: "a.sql".into(), text: text.into(), transaction, supabase: false };
    match source::apply(&database.options, &[file], "tenancy", &|_, _| {}).await {
        Err(error) => error,
        Ok(applied) => panic!("{applied:?}"),
    }
}

#[tokio::test]
async fn errors_name_the_file_the_line_and_the_statement() {
    let database = Database::empty().await;
    for (text, says) in [
        ("SELECT 1;\n\nSELECT 1/0;", "a.sql:3: division by zero, in: SELECT 1/0"),
        (
            "CREATE TABLE rows (a int);\nCOPY rows FROM stdin;\n1\n2\nthree\n\\.\n",
            "a.sql:5: invalid input syntax for type integer: \"three\", in: COPY rows FROM stdin",
        ),
        ("SELECT 1;\nBEGIN;\nSELECT 2;", "a.sql:2: the transaction that begins here is not ended"),
        ("SELECT 1;\nSELECT 'it;\n", "a.sql:2: the string that begins here does not end"),
        ("CREATE ROLE never PASSWORD 'hunter2' NONSENSE;", "a.sql:1: unrecognized role option \"nonsense\""),
        ("SELECT 1;\n\\ir other.sql\n", "a.sql:2: \\ir other.sql is not supported"),
        ("\\connect one\n\\connect -\n", "a.sql:2: \\connect - is not supported"),
        ("\nCREATE EXTENSION IF NOT EXISTS \"no such\";", "a.sql:2: extension \"no such\" is not available"),
    ] {
        let error = error(&database, text, false).await;
        assert!(error.to_string().starts_with(says), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let missing = error(&database, "CREATE EXTENSION \"no such\"", true).await;
    assert!(missing.hint().is_some_and(|hint| hint.contains("\"no such\"")), "{missing:?}");
    let deferred = "CREATE TABLE late (a int UNIQUE DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO late VALUES (1), (1);";
    let deferred = error(&database, deferred, true).await.to_string();
    assert!(deferred.starts_with("a.sql: duplicate key"), "{deferred}");
}

#[test]
fn a_broken_file_is_wrong_input() {
    let dir =
        files(&[("good.sql", TABLE), ("bad.sql", "-- a comment\n\nSELECT 1;\nSELECT 2,\n  3,\n  wrong;\n")]);
    let run = web(&dir, &["--schema", "good.sql", "bad.sql", "-o", "json"]).expect(2);
    let error = run.error();
    let message = error["message"].as_str().expect("a message");
    let says = "bad.sql:6: column \"wrong\" does not exist, in: SELECT 2, 3, wrong";
    assert_eq!(message, says);
    assert_eq!(
        (&error["details"]["file"], &error["details"]["line"]),
        (&"bad.sql".into(), &6.into()),
        "{error}"
    );
    assert_eq!(run.stdout, "");
    wrong(web(&dir, &["--schema", "missing.sql"]), &["missing.sql: "]);
    wrong(web(&dir, &["--schema", "."]), &["it is a directory"]);
}

#[test]
fn a_dump_with_its_rows() {
    let header = "--\n-- PostgreSQL database dump\n--\n\n\\restrict x4kJ\n\nSET statement_timeout = 0;\n\
                  SET no_such_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\
                  CREATE DATABASE \"the app\" WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'xx_XX.utf8';\n\
                  \\connect -reuse-previous=on \"dbname='the app'\"\nCREATE SCHEMA public;\n";
    let body = "CREATE TABLE public.countries (code text, name text);\n\
                COPY public.countries (code, name) FROM stdin;\nci\tCôte d'Ivoire; -- $$\nxx\t\\N\n\\.\n\n\
                DO $$ BEGIN IF (SELECT count(*) FROM public.countries WHERE name LIKE '%; -- %' OR code = 'xx') <> 2\n\
                THEN RAISE 'the rows are not there'; END IF;\n\
                IF current_database() <> 'the app' THEN RAISE 'it is not connected'; END IF; END $$;\n\
                REVOKE USAGE ON SCHEMA public FROM PUBLIC;\nGRANT USAGE ON SCHEMA public TO \"web app\";\n";
    let dump = format!("{header}{body}RESET search_path;\n{TABLE}{OPEN}{CLOSE}\\unrestrict x4kJ\n");
    let run = web(&files(&[("a.sql", &dump)]), &["--schema", "a.sql"]).expect(0);
    assert!(run.stdout.contains("1 proven"), "{}", run.stdout);
    assert!(run.stderr.contains("passed over SET no_such_timeout = 0"), "{}", run.stderr);
}

#[tokio::test]
async fn what_pg_dump_writes() {
    let database = Database::empty().await;
    let role = format!("{} app", database.name);
    let schema = format!("CREATE ROLE \"{role}\";\n{TABLE}{OPEN}{CLOSE}").replace("web app", &role);
    common::execute(&database.options, &schema).await;
    common::execute(
        &database.options,
        "INSERT INTO notes SELECT gen_random_uuid(), n FROM generate_series(1, 9) n",
    )
    .await;
    let mut dump = Command::new("pg_dump");
    let dumped = common::run(dump.args(["--create", "--dbname", &database.url()]));
    if dumped.stderr.contains("server version mismatch") {
        eprintln!("this machine's pg_dump is older than the server under test: its output is not tested");
        return;
    }
    let dumped = dumped.expect(0);
    assert!(dumped.stdout.contains("\nCOPY public.notes"), "{}", dumped.stdout);
    let run =
        verify(&files(&[("dump.sql", &dumped.stdout)]), &["--schema", "dump.sql", "--role", &role]).expect(0);
    assert!(run.stdout.contains("1 proven"), "{}", run.stdout);
}

#[tokio::test]
async fn a_platform_of_the_control_plane() {
    let database = Database::migrated().await;
    let schema = "CREATE TABLE events (tenant_id uuid NOT NULL REFERENCES tenancy.tenants, id uuid NOT NULL,
        PRIMARY KEY (tenant_id, id));\n";
    common::execute(&database.options, schema).await;
    let setup = database.tenantctl(&["rls", "setup", "--print"]).expect(0).stdout;
    let dir = files(&[("schema.sql", schema), ("setup.sql", &setup)]);
    let run = verify(&dir, &["--schema", "schema.sql", "setup.sql", "-o", "json"]).expect(0);
    assert!(run.stderr.contains("the files use the control plane"), "{}", run.stderr);
    let report = run.json();
    assert_eq!(report["tables"][0]["object"], "public.events", "{report}");
    assert_eq!(report["tables"][0]["verdict"], "proven", "{report}");
}

#[test]
fn what_to_verify_has_to_be_said() {
    let dir = files(&[("a.sql", TABLE), ("x/b.txt", ""), ("y/roles.sql", "")]);
    wrong(verify(&dir, &["--schema", "a.sql"]), &["--role ROLE", "--tenant-column", "--contract"]);
    wrong(web(&dir, &["--schema", "a.sql", "--tenant-column", "org_id"]), &["\"org_id\"", "no table"]);
    wrong(web(&dir, &["--schema", "a.sql", "--url", "postgres://h/db"]), &["--url"]);
    wrong(web(&dir, &["--migrations", "x"]), &["x: there is no migration in it", "Flyway"]);
    wrong(web(&dir, &["--migrations", "y"]), &["nothing says when roles.sql runs"]);
    wrong(web(&dir, &["--migrations", "z"]), &["z: "]);
    wrong(
        verify(&dir, &["--schema", "a.sql", "--contract", "c.yaml", "--tenant-column", "x"]),
        &["--tenant-column"],
    );
}

#[test]
fn an_interruption_leaves_nothing() {
    let dir = files(&[("a.sql", "SELECT pg_sleep(60);")]);
    let scratch = tempfile::tempdir().expect("a directory");
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o777)).expect("rights");
    let mut command = common::tenantctl();
    command.env("TMPDIR", scratch.path()).current_dir(dir.path());
    command.args(["rls", "verify", "--schema", "a.sql", "--role", "x"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
    let until = |what: &str, is: &dyn Fn(&Path) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is(scratch.path()) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            sleep(Duration::from_millis(20));
        }
    };
    let servers = |scratch: &Path| fs::read_dir(scratch).expect("a directory").flatten().collect::<Vec<_>>();
    until("the server listens", &|scratch| {
        servers(scratch).iter().any(|server| server.path().join(".s.PGSQL.5432").exists())
    });
    sleep(Duration::from_millis(300));
    common::run(Command::new("kill").args(["-INT", &child.id().to_string()])).expect(0);
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    until("nothing is left", &|scratch| servers(scratch).is_empty());
}
