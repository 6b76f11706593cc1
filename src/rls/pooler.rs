//! The probes of a connection pooler: two clients are brought onto one server connection, one after the other, and the
//! second looks for what the first left there.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Row};
use uuid::Uuid;

use crate::db::quote::{ident, literal, trusted};
use crate::rls::probe::{Leak, Results};
use crate::rls::report::{NotProven, Severity};
use crate::rls::scope::Scope;
use crate::rls::verify::CONNECT_TIMEOUT;
use crate::{Error, Result};

/// The check that these probes convict under.
pub(crate) const CHECK: &str = "pooler-leak";

/// How long a pooler may take to hand out a connection. A full one waits for good.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many server connections of the pooler are taken, to be left with the one in question. Poolers hand out the one
/// that came back last, as a rule, which is the first.
const CLIENTS: usize = 30;

/// What the first client leaves behind, if it can.
struct Trace {
    tenant: String,
    /// Of the cursor and the temporary table.
    name: String,
    /// The settings of its context, with their values.
    settings: Vec<(String, Option<String>)>,
}

/// Tries what reaches the next client of the pooler, in the application role's place.
pub(crate) async fn run(pooler: &PgConnectOptions, scope: &Scope) -> Result<Results> {
    let mut results = Results::default();
    let tenant = scope.acting.key(0).map_or_else(|| Uuid::new_v4().to_string(), Into::into);
    let name = format!("tenancy_probe_{}", Uuid::new_v4().simple());
    let mut trace = Trace { tenant, name, settings: Vec::new() };
    let mut first = connect(pooler).await?;
    let backend = leave(&mut first, scope, &mut trace).await?;
    // A session pooler keeps the connection for the first client until it is gone.
    let second = match follow(pooler, backend.as_deref()).await? {
        Some(second) => Some(second),
        None => {
            first.close().await?;
            follow(pooler, backend.as_deref()).await?
        }
    };
    let Some(mut second) = second else {
        results.not_proven.push(NotProven {
            object: "pooler".into(),
            reason: "no second client came onto the first one's server connection: is it a pooler?".into(),
        });
        return Ok(results);
    };
    look(&mut second, &trace, &mut results).await?;
    second.close().await?;
    Ok(results)
}

/// A client of the pooler. It uses the simple protocol only, and asks for nothing at the start that a pooler may refuse.
async fn connect(pooler: &PgConnectOptions) -> Result<PgConnection> {
    let options = pooler.clone().statement_cache_capacity(0).extra_float_digits(None);
    crate::db::connect(options, CONNECT_TIMEOUT).await
}

async fn text(connection: &mut PgConnection, sql: String) -> Result<Option<String>> {
    Ok(connection.fetch_one(sqlx::raw_sql(trusted(sql))).await?.try_get(0)?)
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<()> {
    connection.execute(sqlx::raw_sql(trusted(sql.to_owned()))).await?;
    Ok(())
}

async fn setting_value(connection: &mut PgConnection, name: &str) -> Result<Option<String>> {
    text(connection, format!("SELECT pg_catalog.current_setting({}, true)", literal(name))).await
}

async fn backend(connection: &mut PgConnection) -> Result<Option<String>> {
    text(connection, "SELECT pg_catalog.pg_backend_pid()::text".into()).await
}

/// The first client: a transaction of the platform's, with a cursor and a temporary table where the role may have them.
/// Returns whose process served it.
async fn leave(first: &mut PgConnection, scope: &Scope, trace: &mut Trace) -> Result<Option<String>> {
    execute(first, &format!("BEGIN; SET LOCAL ROLE {}", ident(&scope.app.name))).await?;
    let backend = backend(first).await?;
    for statement in scope.acting.enter(&trace.tenant, 0) {
        execute(first, &statement).await?;
    }
    for setting in scope.acting.settings() {
        let value = setting_value(first, &setting).await?;
        trace.settings.push((setting, value));
    }
    let name = ident(&trace.name);
    for statement in [
        format!("CREATE TEMPORARY TABLE {name} AS SELECT 1 AS found"),
        format!("DECLARE {name} CURSOR WITH HOLD FOR SELECT 1"),
    ] {
        execute(first, "SAVEPOINT tenancy_probe").await?;
        match execute(first, &statement).await {
            Ok(()) => {}
            // What the role may not do it cannot leave behind.
            Err(Error::Database(sqlx::Error::Database(error)))
                if error.code().as_deref() == Some("42501") =>
            {
                execute(first, "ROLLBACK TO SAVEPOINT tenancy_probe").await?;
            }
            Err(error) => return Err(error),
        }
    }
    execute(first, "COMMIT").await?;
    Ok(backend)
}

/// A client on that server connection, in a transaction: all others are kept busy until the pooler has no other left.
async fn follow(pooler: &PgConnectOptions, wanted: Option<&str>) -> Result<Option<PgConnection>> {
    let mut others = Vec::new();
    let mut found = None;
    while others.len() < CLIENTS {
        let attempt = async {
            let mut client = connect(pooler).await?;
            execute(&mut client, "BEGIN").await?;
            let backend = backend(&mut client).await?;
            Ok::<_, Error>((client, backend))
        };
        match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(Ok((client, backend))) if backend.as_deref() == wanted => {
                found = Some(client);
                break;
            }
            Ok(Ok((client, _))) => others.push(client),
            // No connection is left: neither in the pooler nor at the server.
            Ok(Err(Error::Database(sqlx::Error::Database(error))))
                if error.code().is_some_and(|code| is_full(&code)) =>
            {
                break;
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => break,
        }
    }
    for other in others {
        other.close().await?;
    }
    Ok(found)
}

/// Whether the error says that there are too many connections: PostgreSQL's code, or PgBouncer's for all it refuses.
fn is_full(code: &str) -> bool {
    ["53300", "08P01"].contains(&code)
}

/// The second client: what it finds of the first. It leaves nothing there itself.
async fn look(second: &mut PgConnection, trace: &Trace, results: &mut Results) -> Result<()> {
    let mut tell = |what: &str, severity: Severity, evidence: String| {
        results.attempts.tried += 1;
        results.attempts.succeeded += 1;
        results.leaks.push(Leak {
            check: CHECK,
            severity,
            object: what.into(),
            object_kind: "pooler".into(),
            detail: String::new(),
            message: format!("{what} of one client reaches the next"),
            evidence,
        });
    };
    let mut kept = 0;
    for (setting, left) in &trace.settings {
        let value = setting_value(second, setting).await?;
        if value == *left && value.is_some_and(|value| !value.is_empty()) {
            tell(
                &format!("the setting {setting}"),
                Severity::Error,
                format!("a client that set nothing reads {setting} as the client before it set it"),
            );
        } else {
            kept += 1;
        }
    }
    for (what, sql, evidence) in [
        (
            "a temporary table",
            format!("SELECT pg_catalog.to_regclass({})::text", literal(&format!("pg_temp.{}", trace.name))),
            "CREATE TEMPORARY TABLE … by one client, SELECT by the next",
        ),
        (
            "a cursor WITH HOLD",
            format!(
                "SELECT pg_catalog.max(name) FROM pg_catalog.pg_cursors WHERE name = {}",
                literal(&trace.name)
            ),
            "DECLARE … CURSOR WITH HOLD by one client, FETCH by the next",
        ),
    ] {
        if text(second, sql).await?.is_some() {
            // It takes a platform that uses one.
            tell(what, Severity::Warning, evidence.into());
        } else {
            kept += 1;
        }
    }
    results.attempts.tried += kept;
    results.attempts.failed += kept;
    let name = ident(&trace.name);
    let mut mend = vec![format!("DROP TABLE IF EXISTS pg_temp.{name}")];
    mend.extend(trace.settings.iter().map(|(setting, _)| format!("RESET {}", path(setting))));
    if results.leaks.iter().any(|leak| leak.object == "a cursor WITH HOLD") {
        mend.push(format!("CLOSE {name}"));
    }
    mend.push("COMMIT".into());
    execute(second, &mend.join("; ")).await
}

/// The name of a setting, each part quoted.
fn path(setting: &str) -> String {
    setting.split('.').map(ident).collect::<Vec<_>>().join(".")
}
