//! Verification from end to end: the catalogue raises suspicion, the probes convict or clear.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};

use crate::rls::catalog::{self, Second, Suspicion};
use crate::rls::check::{self, Check};
use crate::rls::contract::Contract;
use crate::rls::drift;
use crate::rls::ignore::{Baseline, Ignore};
use crate::rls::pooler;
use crate::rls::probe::{self, Progress, Results};
use crate::rls::report::{
    Finding, NotProven, Report, Severity, Source, Summary, TableVerdict, Tests, Verdict, fingerprint,
};
use crate::rls::scope::{self, Scope, Session};
use crate::{Error, ErrorKind, Result};

/// How long to wait for the server.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How to verify.
#[derive(Clone)]
pub struct Options {
    /// Roles that must be confined; empty for the application role of the control plane.
    pub app_roles: Vec<String>,
    /// Only these tables, as `schema.table` or `table`; empty for all.
    pub tables: Vec<String>,
    /// Only these checks; empty for all.
    pub checks: Vec<String>,
    /// Names of tenant columns, besides those that are registered.
    pub tenant_columns: Vec<String>,
    /// The setting that carries the tenant.
    pub context_setting: String,
    /// What the platform's own people say about it; then the control plane's registry does not count, nor do
    /// `tenant_columns` and `context_setting`.
    pub contract: Option<Contract>,
    /// How the platform reaches the database through its pooler, which is then probed as well.
    pub pooler: Option<PgConnectOptions>,
    /// Whether to attack, or leave it at the catalogue.
    pub probes: bool,
    /// Whether what is not proven counts as failed.
    pub strict: bool,
    /// The least severity that counts as failed.
    pub fail_on: Severity,
    /// Findings that do not count until a day is over.
    pub ignore: Vec<Ignore>,
    /// Findings of an earlier run, which do not count either.
    pub baseline: Baseline,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// How long a round of statements may take; zero for the usual 30 seconds, since an attack must end.
    pub statement_timeout: Duration,
    /// Whether the report holds the attacks as tests, for [`Report::pgtap`].
    pub tests: bool,
    /// Called as tables get done.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            app_roles: Vec::new(),
            tables: Vec::new(),
            checks: Vec::new(),
            tenant_columns: vec!["tenant_id".into()],
            context_setting: "app.current_tenant_id".into(),
            contract: None,
            pooler: None,
            probes: true,
            strict: false,
            fail_on: Severity::Warning,
            ignore: Vec::new(),
            baseline: Baseline::default(),
            lock_timeout: Duration::from_secs(5),
            statement_timeout: STATEMENT_TIMEOUT,
            tests: false,
            progress: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("app_roles", &self.app_roles)
            .field("tables", &self.tables)
            .field("checks", &self.checks)
            .field("probes", &self.probes)
            .field("strict", &self.strict)
            .field("fail_on", &self.fail_on)
            .finish_non_exhaustive()
    }
}

/// A verification: to its end, or as far as it came.
#[derive(Debug)]
pub struct Run {
    /// What was found. Where the run ended early it did not pass, and what was not reached is not proven.
    pub report: Report,
    /// What ended it early.
    pub failure: Option<Error>,
}

/// Verifies the isolation of the tenants in a database. Nothing in it is changed: every row that is made and every
/// attack is rolled back.
///
/// The connection should be a superuser's: it makes the rows and knows what there is to see. The attacks run as the
/// application role.
///
/// # Errors
/// Whatever keeps it from coming to its end; [`attempt`] tells what was found until then.
pub async fn verify(connect: &PgConnectOptions, options: &Options) -> Result<Report> {
    let run = attempt(connect, options).await?;
    run.failure.map_or(Ok(run.report), Err)
}

/// Verifies like [`verify`], and reports what was done where it cannot come to its end.
///
/// # Errors
/// What keeps it from finding out anything at all.
pub async fn attempt(connect: &PgConnectOptions, options: &Options) -> Result<Run> {
    let started = Instant::now();
    let mut checks = chosen(&options.checks)?;
    let mut connection = crate::db::connect(connect.clone(), CONNECT_TIMEOUT).await?;
    let mut snapshot = catalog::begin(&mut connection, options.lock_timeout).await?;
    let session = scope::session(&mut connection).await?;
    checks.retain(|check| session.citus || !check.needs_citus());
    let roles = roles(&mut connection, &session, options).await?;
    let mut report = blank(&session, options, &checks);
    let mut failure = None;
    for (at, role) in roles.iter().enumerate() {
        if failure.is_some() {
            let reason = "not reached: the verification ended early".into();
            report.not_proven.push(NotProven { object: crate::db::quote::ident(role), reason });
            continue;
        }
        let second =
            snapshot.take().map(|snapshot| Second { connect, snapshot, lock_timeout: options.lock_timeout });
        let (scope, mut suspicions) =
            match look(&mut connection, second, &session, options, &checks, role).await {
                Ok(seen) => seen,
                Err(error) if at > 0 && error.kind() == ErrorKind::Unreachable => {
                    let reason = format!("not reached: {error}");
                    report.not_proven.push(NotProven { object: crate::db::quote::ident(role), reason });
                    failure = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
        // PostgreSQL locks what a view or a policy reads to print it, and the probes must not wait for that.
        connection.execute("COMMIT").await?;
        snapshot = catalog::begin(&mut connection, options.lock_timeout).await?;
        report.summary.tables = report.summary.tables.max(scope.tables.len());
        let probed = if !options.probes {
            unproven(&scope, "probes were switched off")
        } else if !checks.iter().any(|check| check.is_probed()) {
            unproven(&scope, "no probe belongs to the checks that were asked for")
        } else {
            let suspected = keys(&suspicions);
            let settings = settings(connect, options, options.progress.as_deref(), &suspected);
            let (probed, error) = attack(&mut connection, &settings, &session, &scope).await;
            failure = error;
            probed
        };
        if options.probes && !scope.tables.is_empty() && !scope.tables.iter().any(|table| table.reachable) {
            let reason = "it has no right on any tenant table: nothing was tried".into();
            report.not_proven.push(NotProven { object: crate::db::quote::ident(role), reason });
        }
        // Rows are read where they are attacked as well; else the catalogue alone speaks.
        if options.probes && failure.is_none() && checks.iter().any(|check| check.id == drift::CHECK) {
            let (found, unread) =
                drift::run(&mut connection, &scope, options.lock_timeout, limit(options)).await?;
            suspicions.extend(found);
            report.not_proven.extend(unread);
        }
        add(&mut report, &checks, suspicions, probed);
        let pooler = options.pooler.as_ref().filter(|_| options.probes && failure.is_none());
        if let Some(pooler) = pooler.filter(|_| checks.iter().any(|check| check.id == pooler::CHECK)) {
            add(&mut report, &checks, Vec::new(), pooler::run(pooler, &scope).await?);
        }
    }
    let ended = match connection.execute("ROLLBACK").await {
        Ok(_) => connection.close().await,
        Err(error) => Err(error),
    };
    failure = failure.or(ended.err().map(Error::from));
    report.summary.probes = report.attempts.tried;
    report.duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let whole = failure.is_none() && options.probes && options.checks.is_empty() && options.tables.is_empty();
    let today = time::OffsetDateTime::now_utc().date();
    report.suppress(&options.ignore, &options.baseline, today, whole);
    report.settle(options.fail_on, options.strict);
    report.summary.passed &= failure.is_none();
    Ok(Run { report, failure })
}

/// What there is for one application role, and what the catalogue says about it.
async fn look(
    connection: &mut PgConnection,
    second: Option<Second<'_>>,
    session: &Session,
    options: &Options,
    checks: &[&Check],
    role: &str,
) -> Result<(Scope, Vec<Suspicion>)> {
    let mut scope = scope::load(
        connection,
        session,
        role,
        &options.tenant_columns,
        &options.context_setting,
        options.contract.as_ref(),
    )
    .await?;
    let suspicions = catalog::run(connection, second, &scope, checks).await?;
    let suspicions = narrow(&mut scope, suspicions, &options.tables)?;
    Ok((scope, suspicions))
}

/// The roles that must be confined.
pub(crate) async fn roles(
    connection: &mut PgConnection,
    session: &Session,
    options: &Options,
) -> Result<Vec<String>> {
    if !options.app_roles.is_empty() {
        Ok(options.app_roles.clone())
    } else if let Some(contract) = &options.contract {
        Ok(contract.app_roles.clone())
    } else if session.has_role_name {
        Ok(vec![scope::default_role(connection).await?])
    } else {
        Err(Error::Invalid {
            field: "role",
            value: String::new(),
            reason: "the database has no control plane that would name the application role".into(),
            hint: Some("name the role that the application runs as, or give an isolation contract".into()),
        })
    }
}

/// A report with nothing in it.
pub(crate) fn blank(session: &Session, options: &Options, checks: &[&Check]) -> Report {
    Report {
        schema_version: 1,
        server_version: session.server_version.split(' ').next().unwrap_or_default().into(),
        engine: if session.citus { "citus".into() } else { "postgresql".into() },
        duration_ms: 0,
        summary: Summary {
            checks: checks.iter().filter(|check| check.query().is_some()).count(),
            ..Summary::default()
        },
        findings: Vec::new(),
        not_proven: Vec::new(),
        attempts: crate::rls::report::Attempts::default(),
        tables: Vec::new(),
        suppressed: Vec::new(),
        stale_ignores: Vec::new(),
        fail_on: options.fail_on,
        strict: options.strict,
        scripts: BTreeMap::new(),
        tests: Tests::default(),
    }
}

/// Nothing was tried: silence is no proof.
fn unproven(scope: &Scope, reason: &str) -> Results {
    let tables = scope.tables.iter();
    Results {
        not_proven: tables
            .map(|table| NotProven { object: table.name.clone(), reason: reason.into() })
            .collect(),
        ..Results::default()
    }
}

/// How long a statement may take.
fn limit(options: &Options) -> Duration {
    match options.statement_timeout {
        Duration::ZERO => STATEMENT_TIMEOUT,
        other => other,
    }
}

/// What the probes found, and what ended them early.
async fn attack(
    connection: &mut PgConnection,
    settings: &probe::Settings<'_>,
    session: &Session,
    scope: &Scope,
) -> (Results, Option<Error>) {
    let mut results = Results::default();
    let Err(error) = probe::run(connection, settings, session, scope, &mut results).await else {
        return (results, None);
    };
    let known: BTreeSet<&String> = results.verdicts.iter().map(|verdict| &verdict.object).collect();
    let missed: Vec<&scope::Table> =
        scope.tables.iter().filter(|table| !known.contains(&table.name)).collect();
    for table in missed {
        let object = table.name.clone();
        results
            .not_proven
            .push(NotProven { object: object.clone(), reason: format!("not reached: {error}") });
        results.verdicts.push(TableVerdict { object, verdict: Verdict::NotProven, tried: 0 });
    }
    // What leads to several tables may have been tried with some of them only.
    results.cleared.retain(|oid| scope.tables.iter().any(|table| table.oid.0 == *oid));
    (results, Some(error))
}

/// How the probes run.
pub(crate) fn settings<'a>(
    connect: &'a PgConnectOptions,
    options: &Options,
    progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    suspected: &'a BTreeMap<u32, Vec<String>>,
) -> probe::Settings<'a> {
    probe::Settings {
        connect,
        lock_timeout: options.lock_timeout,
        statement_timeout: limit(options),
        progress,
        tests: options.tests,
        suspected,
    }
}

/// The keys among the suspicions, by table.
fn keys(suspicions: &[Suspicion]) -> BTreeMap<u32, Vec<String>> {
    let mut keys: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for suspicion in suspicions {
        let check = suspicion.finding.check.as_str();
        if let ("unique-crosses" | "foreign-key-crosses", Some(relation)) = (check, suspicion.relation) {
            keys.entry(relation.0).or_default().push(suspicion.detail.clone());
        }
    }
    keys
}

pub(crate) fn chosen(ids: &[String]) -> Result<Vec<&'static Check>> {
    if ids.is_empty() {
        return Ok(check::ALL.iter().collect());
    }
    ids.iter().map(|id| check::named(id)).collect()
}

/// Leaves the tables that were asked for, and what was found about them.
pub(crate) fn narrow(
    scope: &mut Scope,
    suspicions: Vec<Suspicion>,
    tables: &[String],
) -> Result<Vec<Suspicion>> {
    if tables.is_empty() {
        return Ok(suspicions);
    }
    let is = |table: &scope::Table, name: &String| {
        *name == table.relname
            || *name == table.name
            || *name == format!("{}.{}", table.schema, table.relname)
    };
    for name in tables {
        if !scope.tables.iter().any(|table| is(table, name)) {
            return Err(Error::NotFound { kind: "table", name: name.clone(), suggestion: None });
        }
    }
    scope.tables.retain(|table| tables.iter().any(|name| is(table, name)));
    let kept = suspicions.into_iter().filter(|suspicion| {
        suspicion.relation.is_none_or(|oid| scope.tables.iter().any(|table| table.oid == oid))
    });
    Ok(kept.collect())
}

/// Holds the catalogue's suspicions against what the probes saw, and adds both to the report.
pub(crate) fn add(report: &mut Report, checks: &[&Check], suspicions: Vec<Suspicion>, probed: Results) {
    // Several roles may show the same: the worst stands.
    let mut convicted: BTreeMap<String, Finding> = BTreeMap::new();
    for leak in probed.leaks.iter().filter(|leak| checks.iter().any(|check| check.id == leak.check)) {
        let key = fingerprint(leak.check, &leak.object, &leak.detail);
        if convicted.get(&key).is_some_and(|known| known.severity >= leak.severity) {
            continue;
        }
        let finding = Finding {
            check: leak.check.into(),
            severity: leak.severity,
            object: leak.object.clone(),
            object_kind: leak.object_kind.clone(),
            message: leak.message.clone(),
            evidence: leak.evidence.clone(),
            fix: check::find(leak.check).map(|check| check.fix().to_string()).unwrap_or_default(),
            fingerprint: key.clone(),
            source: Source::Probe,
            path: Vec::new(),
        };
        convicted.insert(key, finding);
    }
    let mut known: BTreeMap<String, usize> =
        report.findings.iter().enumerate().map(|(at, finding)| (finding.fingerprint.clone(), at)).collect();
    let mut push = |report: &mut Report, finding: Finding| match known.get(&finding.fingerprint) {
        // Several application roles may find the same.
        Some(at) if weight(&report.findings[*at]) < weight(&finding) => report.findings[*at] = finding,
        Some(_) => {}
        None => {
            known.insert(finding.fingerprint.clone(), report.findings.len());
            report.findings.push(finding);
        }
    };
    let mut suspected = BTreeSet::new();
    for suspicion in suspicions {
        let mut finding = suspicion.finding;
        // A probe knows either which of several defects of the object it is, or only the object.
        let exact = convicted.contains_key(&finding.fingerprint);
        let key = if exact {
            finding.fingerprint.clone()
        } else {
            fingerprint(&finding.check, &finding.object, "")
        };
        if let Some(leak) = convicted.get(&key) {
            // The probe's evidence wins; the catalogue knows better what to mend, and its name for the defect stays the
            // same whether or not there are probes.
            finding.message = format!("{}: {}", finding.message, leak.message);
            (finding.severity, finding.source) = (leak.severity, leak.source);
            finding.evidence.clone_from(&leak.evidence);
            suspected.insert(key);
        } else if suspicion.provable && suspicion.relation.is_some_and(|oid| probed.cleared.contains(&oid.0))
        {
            finding.severity = Severity::Note;
            finding.message.push_str("; no probe got through");
        }
        push(report, finding);
    }
    for (key, leak) in convicted {
        if !suspected.contains(&key) {
            push(report, leak);
        }
    }
    report.not_proven.extend(probed.not_proven);
    report.attempts.tried += probed.attempts.tried;
    report.attempts.failed += probed.attempts.failed;
    report.attempts.succeeded += probed.attempts.succeeded;
    report.attempts.inconclusive += probed.attempts.inconclusive;
    report.tables.extend(probed.verdicts);
    report.tests.rows.extend(probed.tests.rows);
    report.tests.before_context.extend(probed.tests.before_context);
    report.tests.after.extend(probed.tests.after);
    for (leak, script) in probed.scripts {
        report.scripts.entry(leak).or_insert(script);
    }
}

/// Of two findings of the same defect the worse stands, and what a probe saw before what the catalogue suspects.
fn weight(finding: &Finding) -> (Severity, bool) {
    (finding.severity, finding.source == Source::Probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_may_spawn_it() {
        fn is_send<T: Send>(_: T) {}
        let (connect, options) = (PgConnectOptions::new_without_pgpass(), Options::default());
        is_send(verify(&connect, &options));
    }
}
