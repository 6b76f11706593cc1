//! What the tests stand on: one throw-away server for the whole run, and a database of its own for each test.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tenancy::db::embedded::{Ephemeral, Request};
use tenancy::db::{self, Session};
use tenancy::rls::{Options, Report, Severity};

/// The database that each test's is a copy of: empty but for the control plane.
const TEMPLATE: &str = "tenancy_template";

static SERVER: LazyLock<Ephemeral> = LazyLock::new(|| {
    let server = Ephemeral::start(&request()).expect("a server for the tests");
    let options = server.options();
    // In a thread of its own, since the test that comes first has a runtime already.
    std::thread::spawn(move || block_on(make_template(options))).join().expect("a template database");
    server
});

/// Which binaries to test with: those of `TENANTCTL_PG_BIN`, else the newest of the machine.
pub(crate) fn request() -> Request {
    Request { bin_dir: std::env::var_os("TENANTCTL_PG_BIN").map(Into::into), major: None }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

async fn make_template(options: PgConnectOptions) {
    let mut connection = options.clone().connect().await.expect("a connection");
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {TEMPLATE}"))).await.expect("a template");
    connection.close().await.expect("a clean end");
    let mut session = Session::new(options.database(TEMPLATE).connect().await.expect("a connection"));
    let mut transaction = session.begin().await.expect("a transaction");
    db::migrate(&mut transaction, "tenancy").await.expect("a control plane");
    transaction.commit().await.expect("a commit");
}

/// A database of one test.
pub(crate) struct Database {
    /// Its name.
    pub(crate) name: String,
    /// How to reach it as the superuser.
    pub(crate) options: PgConnectOptions,
}

impl Database {
    /// A copy of the template: migrated, with the default plans, otherwise empty.
    pub(crate) async fn migrated() -> Self {
        Self::create(&format!("TEMPLATE {TEMPLATE}")).await
    }

    /// A database without a control plane.
    pub(crate) async fn empty() -> Self {
        Self::create("").await
    }

    async fn create(how: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let server = SERVER.options();
        let mut connection = server.clone().connect().await.expect("a connection");
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name} {how}"))).await.expect("a database");
        connection.close().await.expect("a clean end");
        Self { options: server.database(&name), name }
    }

    /// A URL that psql and the command line take.
    pub(crate) fn url(&self) -> String {
        SERVER.url().replace("/tenancy?", &format!("/{}?", self.name))
    }

    /// A pool of connections as the superuser.
    pub(crate) fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(20).connect_lazy_with(self.options.clone())
    }

    /// A session as the superuser.
    pub(crate) async fn session(&self) -> Session {
        Session::new(self.options.connect().await.expect("a connection"))
    }

    /// Runs `tenantctl` on this database, with nothing else from the environment, and nobody at the terminal.
    pub(crate) fn tenantctl(&self, arguments: &[&str]) -> Run {
        run(self.command().args(arguments))
    }

    /// The same, to be given variables or started in the background.
    pub(crate) fn command(&self) -> Command {
        let mut command = tenantctl();
        command.env("TENANTCTL_URL", self.url());
        command
    }

    /// A migrated database with the tenant `acme` on a plan.
    pub(crate) async fn with_acme(plan: &str) -> Self {
        let database = Self::migrated().await;
        database.tenantctl(&["tenant", "create", "Acme", "--plan", plan]).expect(0);
        database
    }

    /// Runs `tenantctl` with `-o json`, makes sure that it succeeds, and gives what it printed.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        self.tenantctl(&[arguments, &["-o", "json"]].concat()).expect(0).json()
    }

    /// Runs `tenantctl` with `-o json`, makes sure that it fails with this exit code and prints no data, and gives the
    /// error.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, arguments: &[&str]) -> serde_json::Value {
        let run = self.tenantctl(&[arguments, &["-o", "json"]].concat()).expect(code);
        assert_eq!(run.stdout, "", "an error belongs on standard error");
        run.error()
    }

    /// What a query gives as the superuser: columns separated by `|`.
    #[track_caller]
    pub(crate) fn sql(&self, query: &str) -> String {
        self.psql(&["--no-align", "--tuples-only", "--command", query]).expect(0).stdout.trim_end().to_owned()
    }

    /// Every row of every table of the control plane.
    #[track_caller]
    pub(crate) fn dump(&self) -> String {
        let tables = self.sql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'tenancy'::regnamespace AND relkind = 'r'",
        );
        let rows = tables.lines().map(|table| format!("SELECT '{table}', t::text FROM tenancy.{table} t"));
        self.sql(&format!("{} ORDER BY 1, 2", rows.collect::<Vec<_>>().join(" UNION ALL ")))
    }

    /// Waits until so many sessions on this database wait for a lock, while other tasks go on.
    pub(crate) async fn blocked(&self, sessions: usize) {
        self.until("wait_event_type = 'Lock'", |found| found >= sessions).await;
    }

    /// Waits until the server has ended every session of `tenantctl` on this database.
    pub(crate) async fn quiet(&self) {
        self.until("application_name = 'tenantctl'", |found| found == 0).await;
    }

    /// Waits for a number of sessions; one that never comes is a failure and not a hang.
    async fn until(&self, which: &str, enough: impl Fn(usize) -> bool) {
        let query =
            format!("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {which}");
        let arrives = async {
            while !enough(self.sql(&query).parse().expect("a number")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let arrived = tokio::time::timeout(Duration::from_secs(30), arrives).await;
        assert!(arrived.is_ok(), "waited in vain for sessions where {which}");
    }

    /// Makes a login that can do nothing but what the application role can, and gives its name.
    pub(crate) fn app_login(&self) -> String {
        // Roles belong to the whole server.
        let role = format!("{}_login", self.name);
        self.sql(&format!("CREATE ROLE {role} LOGIN IN ROLE tenancy_app"));
        role
    }

    /// Runs SQL as a role that logged in itself, in the context of a tenant where one is given.
    pub(crate) fn psql_as(&self, role: &str, context: Option<&str>, sql: &str) -> Run {
        let context =
            context.map_or_else(String::new, |c| format!("SET LOCAL app.current_tenant_id = '{c}';"));
        self.psql(&[
            "--no-align",
            "--tuples-only",
            "--set=VERBOSITY=verbose",
            &format!("--command=SET SESSION AUTHORIZATION {role}"),
            &format!("--command=BEGIN; {context} {sql}; COMMIT"),
        ])
    }

    /// Runs psql on this database and gives its standard output.
    pub(crate) fn psql(&self, arguments: &[&str]) -> Run {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", &self.url()]);
        run(command.args(arguments))
    }
}

/// A pool on a migrated database of its own.
pub(crate) async fn database() -> PgPool {
    Database::migrated().await.pool()
}

/// `tenantctl` with a clean environment and no database named.
pub(crate) fn tenantctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantctl"));
    command.env_clear().current_dir(std::env::temp_dir()).stdin(std::process::Stdio::null());
    for name in ["PATH", "TENANTCTL_PG_BIN"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("HOME", "/nonexistent");
    command
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its exit code; -1 where a signal ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Run {
    /// Makes sure of the exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error on standard error, as JSON.
    #[track_caller]
    pub(crate) fn error(&self) -> serde_json::Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        value["error"].clone()
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Run {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs statements as the superuser, and expects them to work.
pub(crate) async fn execute(options: &PgConnectOptions, sql: &str) {
    let mut connection = options.connect().await.expect("a connection");
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await;
    done.unwrap_or_else(|error| panic!("{error}: {sql}"));
    connection.close().await.expect("a clean end");
}

/// Verifies, and leaves out the notes about what every server has: that it is older than the newest release, that its
/// context is not sealed, and that sessions of one login see each other's statements.
pub(crate) async fn verify(database: &PgConnectOptions, options: &Options) -> tenancy::Result<Report> {
    let mut report = tenancy::rls::verify(database, options).await?;
    report.findings.retain(|finding| {
        finding.severity != Severity::Note
            || !matches!(finding.check.as_str(), "server-outdated" | "context-unsealed" | "activity-oracle")
    });
    Ok(report)
}
