//! Runs the checks over the system catalogue: one snapshot, one query a check, none per table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};

use crate::Result;
use crate::db::quote::{literal, trusted};
use crate::rls::check::Check;
use crate::rls::path;
use crate::rls::report::{Finding, Severity, Source, fingerprint};
use crate::rls::scope::Scope;
use crate::rls::verify::CONNECT_TIMEOUT;

/// A finding, with what is needed to hold it against what the probes saw.
#[derive(Debug, Clone)]
pub(crate) struct Suspicion {
    pub(crate) relation: Option<Oid>,
    pub(crate) provable: bool,
    /// Which of several such defects of the object.
    pub(crate) detail: String,
    pub(crate) finding: Finding,
}

#[derive(sqlx::FromRow)]
struct Row {
    relation: Option<Oid>,
    object: String,
    object_kind: String,
    detail: String,
    message: String,
    evidence: String,
    fix: String,
    severity: Option<String>,
    /// Whether it stands although no probe got through.
    #[sqlx(default)]
    stands: bool,
    /// What an intruder passes, in order, each as `class oid`; what is between them is found out.
    #[sqlx(default)]
    path: Option<Vec<String>>,
}

/// A policy's expressions as PostgreSQL prints them, and both with the bodies of the functions behind them.
#[derive(sqlx::FromRow)]
struct Expressions {
    oid: Oid,
    qual: Option<String>,
    checked: Option<String>,
    whole: String,
}

/// What policies say, each text once: most say the same, and every check takes them all.
#[derive(Default)]
struct Said<'a> {
    /// For each policy the number of its text, from 1.
    of: Vec<i32>,
    quals: Vec<Option<&'a str>>,
    written: Vec<Option<&'a str>>,
    wholes: Vec<&'a str>,
}

impl<'a> Said<'a> {
    fn by(policies: &'a [Expressions]) -> Self {
        let mut said = Self::default();
        let mut known = HashMap::new();
        let mut last = 0;
        for policy in policies {
            let text = (policy.qual.as_deref(), policy.checked.as_deref(), policy.whole.as_str());
            let number = *known.entry(text).or_insert_with(|| {
                said.quals.push(text.0);
                said.written.push(text.1);
                said.wholes.push(text.2);
                last += 1;
                last
            });
            said.of.push(number);
        }
        said
    }
}

/// One snapshot for all checks. Compiling their queries would cost a second, and they take milliseconds.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL jit = off";

/// Printing a policy or a view locks what it reads, and a migration may hold that.
fn begin_with(lock_timeout: Duration) -> String {
    format!("{BEGIN}; SET LOCAL lock_timeout = {}", lock_timeout.as_millis())
}

/// Begins the transaction that the checks read in; gives its snapshot, for [`Second`], where the server shares it.
pub(crate) async fn begin(connection: &mut PgConnection, lock_timeout: Duration) -> Result<Option<String>> {
    connection.execute(sqlx::raw_sql(trusted(begin_with(lock_timeout)))).await?;
    match sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut *connection).await {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(sqlx::Error::Database(_)) => {
            connection.execute("ROLLBACK").await?;
            connection.execute(sqlx::raw_sql(trusted(begin_with(lock_timeout)))).await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// How to open a second connection on the first one's snapshot: planning the checks keeps a core busy for longer than
/// reading the catalogue does, and servers have two.
pub(crate) struct Second<'a> {
    pub(crate) connect: &'a PgConnectOptions,
    pub(crate) snapshot: String,
    pub(crate) lock_timeout: Duration,
}

impl Second<'_> {
    /// None where the server has no connection to spare: then the first one does it all.
    async fn open(self) -> Option<PgConnection> {
        let mut connection = crate::db::connect(self.connect.clone(), CONNECT_TIMEOUT).await.ok()?;
        connection.execute(sqlx::raw_sql(trusted(begin_with(self.lock_timeout)))).await.ok()?;
        let join = format!("SET TRANSACTION SNAPSHOT {}", literal(&self.snapshot));
        connection.execute(sqlx::raw_sql(trusted(join))).await.ok()?;
        Some(connection)
    }
}

/// Every finding of the checks about one application role.
pub(crate) async fn run(
    connection: &mut PgConnection,
    second: Option<Second<'_>>,
    scope: &Scope,
    checks: &[&Check],
) -> Result<Vec<Suspicion>> {
    let tables: Vec<Oid> = scope.tables.iter().map(|table| table.oid).collect();
    let columns: Vec<Option<String>> = scope.tables.iter().map(|table| table.tenant_column.clone()).collect();
    let reachable: Vec<bool> = scope.tables.iter().map(|table| table.reachable).collect();
    let roles: Vec<Oid> = scope.roles.iter().map(|role| role.oid).collect();
    let settable: Vec<Oid> = scope.roles.iter().filter(|role| role.settable).map(|role| role.oid).collect();
    let settings = scope.acting.settings();
    let (policies, second) = tokio::join!(
        sqlx::query_as(include_str!("../../sql/rls/expressions.sql"))
            .bind(&tables)
            .fetch_all(&mut *connection),
        async {
            match second {
                Some(second) => second.open().await,
                None => None,
            }
        }
    );
    let policies: Vec<Expressions> = policies?;
    let oids: Vec<Oid> = policies.iter().map(|policy| policy.oid).collect();
    let Said { of: said, quals, written, wholes } = Said::by(&policies);
    let next = AtomicUsize::new(0);
    // Each connection takes the next check as soon as it is done with one.
    let work = async |connection: &mut PgConnection| -> Result<Vec<(usize, Vec<Row>)>> {
        let mut answers = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(check) = checks.get(at) else { return Ok(answers) };
            let Some(query) = check.query() else { continue };
            let mut query = sqlx::query_as(query)
                .bind(&tables)
                .bind(&columns)
                .bind(&reachable)
                .bind(&roles)
                .bind(&settable)
                .bind(scope.app.oid)
                .bind(&scope.shared)
                .bind(&settings)
                .bind(scope.owner_role)
                .bind(&scope.admins);
            if check.reads_policies() {
                query = query.bind(&oids).bind(&said).bind(&quals).bind(&written).bind(&wholes);
            }
            answers.push((at, query.fetch_all(&mut *connection).await?));
        }
    };
    let mut answers = match second {
        None => work(connection).await?,
        Some(mut second) => {
            let (mut answers, others) = tokio::try_join!(work(connection), work(&mut second))?;
            second.close().await?;
            answers.extend(others);
            answers
        }
    };
    answers.sort_by_key(|(at, _)| *at);
    let mut found = Vec::new();
    let (mut routed, mut routes) = (Vec::new(), Vec::new());
    for (at, rows) in answers {
        let check = checks[at];
        for row in rows {
            if row.relation.is_some_and(|oid| scope.elsewhere.contains(&oid)) {
                continue;
            }
            let severity = match row.severity {
                Some(severity) => severity.parse::<Severity>()?,
                None => check.severity,
            };
            if let Some(stops) = &row.path {
                routed.push(found.len());
                routes.push(path::stops(stops)?);
            }
            found.push(Suspicion {
                relation: row.relation,
                provable: check.is_suspicion() && !row.stands,
                finding: Finding {
                    fingerprint: fingerprint(check.id, &row.object, &row.detail),
                    check: check.id.into(),
                    severity,
                    object: row.object,
                    object_kind: row.object_kind,
                    message: row.message,
                    evidence: row.evidence,
                    fix: row.fix,
                    source: Source::Catalog,
                    path: Vec::new(),
                },
                detail: row.detail,
            });
        }
    }
    if !routes.is_empty() {
        for (at, path) in routed.into_iter().zip(path::complete(connection, scope, &routes).await?) {
            found[at].finding.path = path;
        }
    }
    Ok(found)
}
