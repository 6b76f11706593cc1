//! `rls verify --pooler`: what one client of PgBouncer leaves to the next.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::verify;
use tenancy::rls::report::Source;
use tenancy::rls::{Contract, Options, Report, Severity};

use crate::common::{self, Database};

/// PgBouncer in front of the tests' server, on a socket of its own.
struct Bouncer {
    process: Child,
    directory: tempfile::TempDir,
}

impl Bouncer {
    /// None where the machine has no PgBouncer; `TENANTCTL_TEST_PGBOUNCER` says that it must have one.
    fn start(database: &Database, settings: &str) -> Option<Self> {
        let named = std::env::var_os("TENANTCTL_TEST_PGBOUNCER").map(PathBuf::from);
        let program = named.or_else(|| {
            let path = std::env::var("PATH").unwrap_or_default();
            let places =
                path.split(':').chain(["/usr/sbin"]).map(|place| PathBuf::from(place).join("pgbouncer"));
            places.into_iter().find(|program| program.is_file())
        });
        let Some(program) = program else {
            eprintln!("no pgbouncer on this machine: what a pooler leaks is not tested");
            return None;
        };
        let socket = database.options.get_socket().expect("a server on a socket").clone();
        let directory = tempfile::Builder::new().prefix("pb-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let place = directory.path().display();
        std::fs::write(
            directory.path().join("bouncer.ini"),
            format!(
                "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
                 unix_socket_dir = {place}\nauth_type = any\n{settings}\n",
                socket.display(),
                database.options.get_port(),
            ),
        )
        .unwrap();
        let mut command = Command::new(program);
        command.arg(directory.path().join("bouncer.ini"));
        // It refuses to run as root, like the server, and becomes whom the server runs as.
        let owner = std::fs::metadata(&socket).unwrap().uid();
        if std::fs::metadata(directory.path()).unwrap().uid() == 0 && owner != 0 {
            let name = Command::new("id").args(["-nu", &owner.to_string()]).output().unwrap();
            command.args(["-u", String::from_utf8(name.stdout).unwrap().trim()]);
        }
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process =
            command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).spawn().unwrap();
        let bouncer = Self { process, directory };
        let started = Instant::now();
        while !bouncer.directory.path().join(".s.PGSQL.6432").exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "{}", bouncer.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(bouncer)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    async fn verified(&self, database: &Database, set: &str) -> Report {
        let contract = format!(
            "tenant_column: tenant_id\napp_roles: [{}_app]\ncontext:\n  set: \"{set}\"\n",
            database.name
        );
        let contract = Contract::parse(&contract, "isolation.yaml").expect("a contract");
        let pooler = database.options.clone().socket(self.directory.path()).port(6432);
        let options =
            Options { contract: Some(contract), pooler: Some(pooler), strict: true, ..Options::default() };
        match verify(&database.options, &options).await {
            Ok(report) => report,
            Err(error) => panic!("{error}: {}", self.log()),
        }
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // It has nothing to lose.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

const TRANSACTIONS: &str = "pool_mode = transaction\ndefault_pool_size = 2";

async fn platform() -> Database {
    let database = Database::empty().await;
    let sql = "CREATE ROLE @app NOLOGIN; GRANT USAGE ON SCHEMA public TO @app;
        CREATE TABLE public.notes (tenant_id uuid NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(),
                                   PRIMARY KEY (tenant_id, id));
        ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE public.notes FORCE ROW LEVEL SECURITY;
        CREATE POLICY isolation ON public.notes TO @app
            USING (tenant_id = (SELECT nullif(current_setting('app.tenant', true), '')::uuid));
        GRANT SELECT, INSERT, DELETE ON public.notes TO @app;";
    common::execute(&database.options, &sql.replace('@', &format!("{}_", database.name))).await;
    database
}

fn leaks(report: &Report) -> Vec<(Severity, &str)> {
    let found = report.findings.iter().filter(|finding| finding.check == "pooler-leak");
    found
        .inspect(|finding| assert_eq!(finding.source, Source::Probe))
        .map(|finding| (finding.severity, finding.object.as_str()))
        .collect()
}

#[tokio::test]
async fn a_context_for_the_session_reaches_the_next_client() {
    let database = platform().await;
    let Some(bouncer) = Bouncer::start(&database, TRANSACTIONS) else { return };
    let report = bouncer.verified(&database, "SET app.tenant = '{tenant}'").await;
    assert_eq!(
        leaks(&report),
        [
            (Severity::Error, "the setting app.tenant"),
            (Severity::Warning, "a cursor WITH HOLD"),
            (Severity::Warning, "a temporary table"),
        ]
    );
    // What was found is not left there: the platform's next client would be the victim.
    let report = bouncer.verified(&database, "SELECT set_config('app.tenant', '{tenant}', true)").await;
    assert!(leaks(&report).iter().all(|(severity, _)| *severity == Severity::Warning), "{report:#?}");
}

#[tokio::test]
async fn a_role_without_temporary_tables_leaves_none() {
    let database = platform().await;
    let revoke = format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC", database.name);
    common::execute(&database.options, &revoke).await;
    let Some(bouncer) = Bouncer::start(&database, TRANSACTIONS) else { return };
    let report = bouncer.verified(&database, "SELECT set_config('app.tenant', '{tenant}', true)").await;
    assert_eq!(leaks(&report), [(Severity::Warning, "a cursor WITH HOLD")]);
}

#[tokio::test]
async fn a_pooler_that_resets_its_connections_is_passed() {
    let database = platform().await;
    for settings in [
        "pool_mode = transaction\ndefault_pool_size = 2\nserver_reset_query_always = 1",
        "pool_mode = session\ndefault_pool_size = 3",
    ] {
        let Some(bouncer) = Bouncer::start(&database, settings) else { return };
        let report = bouncer.verified(&database, "SET app.tenant = '{tenant}'").await;
        assert_eq!(leaks(&report), [], "{settings}");
        assert!(report.summary.passed, "{settings}: {report:#?}");
    }
}

#[tokio::test]
async fn a_server_without_a_pooler_proves_nothing() {
    let database = platform().await;
    let contract = format!(
        "tenant_column: tenant_id\napp_roles: [{}_app]\ncontext:\n  set: SET LOCAL app.tenant = '{{tenant}}'\n",
        database.name
    );
    let contract = Contract::parse(&contract, "isolation.yaml").expect("a contract");
    let pooler = database.options.clone();
    let options = Options { contract: Some(contract), pooler: Some(pooler), ..Options::default() };
    let report = verify(&database.options, &options).await.expect("a report");
    assert!(report.not_proven.iter().any(|unproven| unproven.object == "pooler"), "{report:#?}");
    assert_eq!(leaks(&report), []);
}
