//! Proof of the verifier on a live schema: its isolation is weakened in every way there is, each in a transaction that
//! is rolled back, and what the checks and probes say is held against what really gets through.

mod oracle;
mod report;
mod stage;
mod weaken;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};

use crate::db::quote::{ident, trusted};
use crate::rls::catalog;
use crate::rls::check::Check;
use crate::rls::mutate::oracle::{Crossings, Oracle};
use crate::rls::mutate::stage::{Stage, weaken};
use crate::rls::mutate::weaken::{Mutation, Opening, Policy, Subject};
use crate::rls::probe::{self, Ground, Progress};
use crate::rls::report::Severity;
use crate::rls::scope::{self, Scope, Session, Table};
use crate::rls::verify::{self, CONNECT_TIMEOUT, Options};
use crate::{Error, Result};

pub use crate::rls::mutate::report::{Counts, Extent, Mutant, Mutations, Shape, Verdict};

/// How many tables of a shape are tried until one can be given rows.
const CANDIDATES: usize = 3;
/// Keys that tell what others have do so under any policies: no weakening makes them.
static NO_KEYS: BTreeMap<u32, Vec<String>> = BTreeMap::new();

/// Weakens the isolation in every way there is and tells which weakenings would be noticed. Nothing of it stays; but each
/// table is locked against everybody else while it is weakened.
///
/// # Errors
/// [`Error::Refused`] where the connection is no superuser's, since only a superuser can weaken everything and look past
/// every policy.
pub async fn mutate(connect: &PgConnectOptions, options: &Options, extent: Extent) -> Result<Mutations> {
    let started = Instant::now();
    let mut checks = verify::chosen(&options.checks)?;
    let mut connection = crate::db::connect(connect.clone(), CONNECT_TIMEOUT).await?;
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let session = scope::session(&mut connection).await?;
    checks.retain(|check| session.citus || !check.needs_citus());
    let (home, superuser): (String, bool) = sqlx::query_as(
        "SELECT rolname::text, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    .fetch_one(&mut connection)
    .await?;
    if !superuser || session.in_recovery {
        return Err(Error::refused(
            "weakening the isolation and looking at what gets through takes a superuser, on a server that can be written",
            "run it against a copy of the database, as a superuser",
        ));
    }
    let mut plans = Vec::new();
    for role in verify::roles(&mut connection, &session, options).await? {
        let mut whole = load(&mut connection, &session, options, &role).await?;
        verify::narrow(&mut whole, Vec::new(), &options.tables)?;
        let groups = groups(&mut connection, &whole, extent).await?;
        plans.push((role, whole, groups));
    }
    connection.execute("ROLLBACK").await?;
    connection.close().await?;
    let (mut mutants, mut tables) = (Vec::new(), Vec::new());
    for (role, scope, groups) in plans {
        let lab = Lab { connect, options, session: &session, checks: &checks, role: &role, home: &home };
        let mut first = true;
        for group in groups {
            let Some((table, shape)) = lab.candidate(group).await? else { continue };
            mutants.extend(lab.weaken_all(&table, &scope, std::mem::take(&mut first)).await?);
            if !tables.contains(&shape) {
                tables.push(shape);
            }
        }
    }
    let mut report = Mutations {
        schema_version: 1,
        server_version: session.server_version.split(' ').next().unwrap_or_default().into(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        summary: Counts::default(),
        tables,
        mutants,
    };
    report.settle(options.strict);
    Ok(report)
}

async fn load(
    connection: &mut PgConnection,
    session: &Session,
    options: &Options,
    role: &str,
) -> Result<Scope> {
    let contract = options.contract.as_ref();
    let (columns, setting) = (&options.tenant_columns, &options.context_setting);
    scope::load(connection, session, role, columns, setting, contract).await
}

/// The tables that the role reaches, those of one shape together.
async fn groups(connection: &mut PgConnection, scope: &Scope, extent: Extent) -> Result<Vec<Vec<Table>>> {
    let tables: Vec<&Table> = scope
        .tables
        .iter()
        .filter(|table| {
            table.reachable && table.tenant_column.is_some() && table.object_kind != "foreign table"
        })
        .collect();
    if extent == Extent::All {
        return Ok(tables.into_iter().map(|table| vec![table.clone()]).collect());
    }
    let shapes: Vec<(Oid, String, bool)> = sqlx::query_as(include_str!("../../../sql/rls/mutate/shapes.sql"))
        .bind(tables.iter().map(|table| table.oid).collect::<Vec<_>>())
        .bind(tables.iter().map(|table| table.tenant_column.clone()).collect::<Vec<_>>())
        .bind(&scope.app.name)
        .fetch_all(connection)
        .await?;
    let shapes: BTreeMap<u32, (String, bool)> =
        shapes.into_iter().map(|(oid, shape, referenced)| (oid.0, (shape, referenced))).collect();
    let mut groups: BTreeMap<Option<&String>, Vec<Table>> = BTreeMap::new();
    for table in tables {
        groups.entry(shapes.get(&table.oid.0).map(|(shape, _)| shape)).or_default().push(table.clone());
    }
    let mut groups: Vec<Vec<Table>> = groups.into_values().collect();
    for group in &mut groups {
        // What references a table keeps it from being truncated: one that stands alone shows more.
        group.sort_by_key(|table| shapes.get(&table.oid.0).is_some_and(|(_, referenced)| *referenced));
    }
    groups.sort_by(|a, b| a.iter().map(|t| &t.name).cmp(b.iter().map(|t| &t.name)));
    Ok(groups)
}

/// Check and severity of each finding, by fingerprint.
type Findings = BTreeMap<String, (String, Severity)>;

struct Lab<'a> {
    connect: &'a PgConnectOptions,
    options: &'a Options,
    session: &'a Session,
    checks: &'a [&'static Check],
    role: &'a str,
    home: &'a str,
}

impl Lab<'_> {
    /// The first table of the group that rows can be made in, else the first.
    async fn candidate(&self, group: Vec<Table>) -> Result<Option<(Table, Shape)>> {
        let mut chosen = 0;
        for (at, table) in group.iter().enumerate().take(CANDIDATES) {
            let mut connection = self.begin().await?;
            let ground = self.ground(&mut connection, table.oid).await?;
            connection.close().await?;
            if ground.is_ok() {
                chosen = at;
                break;
            }
        }
        let others = group.iter().enumerate().filter(|(at, _)| *at != chosen);
        let stands_for = others.map(|(_, other)| other.name.clone()).collect();
        let table = group.get(chosen).cloned();
        Ok(table.map(|table| {
            let shape = Shape { object: table.name.clone(), stands_for };
            (table, shape)
        }))
    }

    /// Every weakening of the table, and of the roles as well where asked.
    async fn weaken_all(&self, table: &Table, scope: &Scope, with_roles: bool) -> Result<Vec<Mutant>> {
        let baseline = self.baseline(table.oid).await?;
        let stage = baseline.as_ref().ok().and_then(|(_, stage)| stage.as_ref());
        let key = stage.map(|stage| stage.ground.keys[1].clone());
        let mut connection = self.begin().await?;
        let mutations = self.mutations(&mut connection, table, scope, key.as_deref(), with_roles).await?;
        connection.close().await?;
        let total = 2 * mutations.len();
        let mut trials: Vec<Result<Crossings, String>> = Vec::new();
        let (before, mut stage) = match baseline {
            Ok(baseline) => baseline,
            Err(reason) => {
                let untried = mutations.iter().map(|mutation| self.mutant(mutation, &reason));
                return Ok(untried.collect());
            }
        };
        // First everything that one session can show. It has to be over before another can alter the table.
        let mut fresh = Vec::new();
        for (at, mutation) in mutations.iter().enumerate() {
            trials.push(match &mut stage {
                Some(stage) if mutation.opening != Opening::Unset => {
                    stage.through(self.role, mutation).await?
                }
                _ => {
                    fresh.push(at);
                    Err(String::new())
                }
            });
            self.progress(at + 1, total);
        }
        if let Some(stage) = stage {
            stage.connection.close().await?;
        }
        for at in fresh {
            trials[at] = self.through(table.oid, &mutations[at]).await?;
        }
        let known = match self.findings(table.oid, None).await? {
            Ok(known) => known,
            Err(reason) => {
                let untried = mutations.iter().map(|mutation| self.mutant(mutation, &reason));
                return Ok(untried.collect());
            }
        };
        let mut mutants = Vec::new();
        let mut desk = None;
        for (at, (mutation, trial)) in mutations.iter().zip(trials).enumerate() {
            mutants.push(self.judge(table.oid, mutation, trial, &before, &known, &mut desk).await?);
            self.progress(mutations.len() + at + 1, total);
        }
        if let Some(desk) = desk {
            desk.close().await?;
        }
        Ok(mutants)
    }

    fn progress(&self, done: usize, total: usize) {
        if let Some(progress) = &self.options.progress {
            progress(Progress { done, total });
        }
    }

    fn mutant(&self, mutation: &Mutation, reason: &str) -> Mutant {
        Mutant {
            mutation: mutation.name.clone(),
            object: mutation.object.clone(),
            role: self.role.into(),
            statements: mutation.statements.clone(),
            verdict: Verdict::Untried,
            let_through: BTreeMap::new(),
            found_by: Vec::new(),
            reason: reason.into(),
        }
    }

    async fn mutations(
        &self,
        connection: &mut PgConnection,
        table: &Table,
        scope: &Scope,
        known: Option<&str>,
        with_roles: bool,
    ) -> Result<Vec<Mutation>> {
        // So that every name in the policies is printed with its schema.
        connection.execute("SET LOCAL search_path = pg_catalog").await?;
        let policies: Vec<Policy> = sqlx::query_as(include_str!("../../../sql/rls/mutate/policies.sql"))
            .bind(table.oid)
            .fetch_all(&mut *connection)
            .await?;
        let column = table.tenant_column.as_deref().unwrap_or_default();
        let tenant_type: Option<String> =
            sqlx::query_scalar(include_str!("../../../sql/rls/mutate/tenant_type.sql"))
                .bind(table.oid)
                .bind(column)
                .fetch_optional(&mut *connection)
                .await?;
        let flag: Option<(String, String)> = sqlx::query_as(include_str!("../../../sql/rls/mutate/flag.sql"))
            .bind(table.oid)
            .bind(column)
            .fetch_optional(&mut *connection)
            .await?;
        let owner: String = sqlx::query_scalar(
            "SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(relowner)) FROM pg_catalog.pg_class WHERE oid = $1",
        )
        .bind(table.oid)
        .fetch_one(&mut *connection)
        .await?;
        connection.execute("SET LOCAL search_path TO DEFAULT").await?;
        let subject = Subject {
            table: &table.name,
            schema: ident(&table.schema),
            app: self.role,
            home: self.home,
            tenant: ident(column),
            tenant_type: tenant_type.as_deref().unwrap_or("text"),
            setting: scope.acting.setting(),
            known,
            owner,
            flag,
            policies: &policies,
        };
        let mut mutations = subject.mutations();
        if with_roles {
            let others: Vec<String> = sqlx::query_scalar(include_str!("../../../sql/rls/mutate/roles.sql"))
                .bind(self.role)
                .bind(&scope.admins)
                .bind(table.oid)
                .fetch_all(&mut *connection)
                .await?;
            mutations.extend(subject.of_role(&others));
        }
        Ok(mutations)
    }

    /// What gets through as it is, and the stage for what is to come.
    async fn baseline(&self, table: Oid) -> Result<Result<(Crossings, Option<Stage>), String>> {
        let mut connection = self.begin().await?;
        let mut ground = match self.ground(&mut connection, table).await? {
            Ok(ground) => ground,
            Err(reason) => {
                connection.close().await?;
                return Ok(Err(reason));
            }
        };
        let through = Oracle::new(&mut connection, &ground, self.role).ask(&Opening::None).await?;
        // A setting that was ever set does not read as unset again.
        ground.unset = false;
        // While a check is put off until the end, the table cannot be altered.
        match connection.execute("SET CONSTRAINTS ALL IMMEDIATE").await {
            Ok(_) => Ok(Ok((through, Some(Stage { connection, ground })))),
            Err(sqlx::Error::Database(_)) => {
                connection.close().await?;
                Ok(Ok((through, None)))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn ground(&self, connection: &mut PgConnection, table: Oid) -> Result<Result<Ground, String>> {
        let scope = self.scope(connection, table).await?;
        let settings = verify::settings(self.connect, self.options, None, &NO_KEYS);
        probe::ground(connection, &settings, self.session, &scope).await
    }

    /// Holds what verification says of the weakening against what got through it.
    async fn judge(
        &self,
        table: Oid,
        mutation: &Mutation,
        trial: Result<Crossings, String>,
        before: &Crossings,
        known: &Findings,
        desk: &mut Option<PgConnection>,
    ) -> Result<Mutant> {
        let through = match trial {
            Ok(through) => through,
            Err(reason) => return Ok(self.mutant(mutation, &reason)),
        };
        let mut mutant = self.mutant(mutation, "");
        mutant.let_through = through.into_iter().filter(|(what, _)| !before.contains_key(what)).collect();
        if mutant.let_through.is_empty() {
            mutant.verdict = Verdict::Equivalent;
            return Ok(mutant);
        }
        match self.findings_at(desk, table, mutation).await? {
            Err(reason) => mutant.reason = reason,
            Ok(found) => {
                let new = found.into_iter().filter(|(print, (_, severity))| {
                    *severity >= self.options.fail_on
                        && known.get(print).is_none_or(|(_, before)| before < severity)
                });
                mutant.found_by = new.map(|(_, (check, _))| check).collect();
                mutant.found_by.sort();
                mutant.found_by.dedup();
                mutant.verdict = if mutant.found_by.is_empty() { Verdict::Survived } else { Verdict::Killed };
            }
        }
        Ok(mutant)
    }

    /// What gets through once the table is weakened, in a session of its own. Says why, where that could not be tried.
    async fn through(&self, table: Oid, mutation: &Mutation) -> Result<Result<Crossings, String>> {
        let mut connection = self.begin().await?;
        let outcome = self.through_in(&mut connection, table, mutation).await;
        connection.close().await?;
        outcome
    }

    async fn through_in(
        &self,
        connection: &mut PgConnection,
        table: Oid,
        mutation: &Mutation,
    ) -> Result<Result<Crossings, String>> {
        if let Err(reason) = weaken(connection, Some(mutation)).await? {
            return Ok(Err(reason));
        }
        let ground = match self.ground(connection, table).await? {
            Ok(ground) => ground,
            Err(reason) => return Ok(Err(reason)),
        };
        if mutation.opening == Opening::Unset && !ground.unset {
            return Ok(Err("a context that was never set could not be tried: its rows need one".into()));
        }
        Ok(Ok(Oracle::new(connection, &ground, self.role).ask(&mutation.opening).await?))
    }

    /// What verification says of the weakened table, in a session that serves for one weakening after the other: its
    /// caches are warm. Where a context that was never set is what counts, the session has to be a fresh one.
    async fn findings_at(
        &self,
        desk: &mut Option<PgConnection>,
        table: Oid,
        mutation: &Mutation,
    ) -> Result<Result<Findings, String>> {
        if mutation.opening == Opening::Unset {
            return self.findings(table, Some(mutation)).await;
        }
        let mut connection = match desk.take() {
            Some(connection) => connection,
            None => self.begin().await?,
        };
        connection.execute("SAVEPOINT mutant").await?;
        let (outcome, spoiled) = self.findings_in(&mut connection, table, Some(mutation)).await?;
        if spoiled {
            // Whatever it would answer now is not to be trusted.
            connection.close_hard().await?;
        } else {
            connection.execute("ROLLBACK TO mutant; RELEASE mutant").await?;
            *desk = Some(connection);
        }
        Ok(outcome)
    }

    /// What verification says of the table once it is weakened, or as it is, in a session of its own.
    async fn findings(&self, table: Oid, mutation: Option<&Mutation>) -> Result<Result<Findings, String>> {
        let mut connection = self.begin().await?;
        let (outcome, spoiled) = self.findings_in(&mut connection, table, mutation).await?;
        if spoiled {
            connection.close_hard().await?;
        } else {
            connection.close().await?;
        }
        Ok(outcome)
    }

    /// The findings, and whether the connection is spoiled.
    async fn findings_in(
        &self,
        connection: &mut PgConnection,
        table: Oid,
        mutation: Option<&Mutation>,
    ) -> Result<(Result<Findings, String>, bool)> {
        if let Err(reason) = weaken(connection, mutation).await? {
            return Ok((Err(reason), false));
        }
        let scope = self.scope(connection, table).await?;
        // The catalogue's queries are planned once for all weakenings; the platform's own are planned as ever.
        connection.execute("SET LOCAL plan_cache_mode = force_generic_plan").await?;
        let suspicions = catalog::run(connection, None, &scope, self.checks).await?;
        connection.execute("SET LOCAL plan_cache_mode TO DEFAULT").await?;
        let probed = if self.options.probes && self.checks.iter().any(|check| check.is_probed()) {
            let settings = verify::settings(self.connect, self.options, None, &NO_KEYS);
            probe::within(connection, &settings, self.session, &scope).await?
        } else {
            probe::Results::default()
        };
        let spoiled = probed.spoiled;
        let mut report = verify::blank(self.session, self.options, self.checks);
        verify::add(&mut report, self.checks, suspicions, probed);
        let today = time::OffsetDateTime::now_utc().date();
        report.suppress(&self.options.ignore, &self.options.baseline, today, false);
        let of = |finding: crate::rls::Finding| (finding.fingerprint, (finding.check, finding.severity));
        Ok((Ok(report.findings.into_iter().map(of).collect()), spoiled))
    }

    /// The scope as it is in the transaction, narrowed to one table.
    async fn scope(&self, connection: &mut PgConnection, table: Oid) -> Result<Scope> {
        let mut scope = load(connection, self.session, self.options, self.role).await?;
        scope.tables.retain(|known| known.oid == table);
        Ok(scope)
    }

    /// A session of its own, in a transaction: closing it takes back whatever was done in it.
    async fn begin(&self) -> Result<PgConnection> {
        let mut connection = crate::db::connect(self.connect.clone(), CONNECT_TIMEOUT).await?;
        let settings = verify::settings(self.connect, self.options, None, &NO_KEYS);
        let milliseconds = |time: Duration| time.as_millis();
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        connection
            .execute(sqlx::raw_sql(trusted(format!(
                "SET LOCAL jit = off; SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; SET LOCAL row_security = on; SET LOCAL \
                 client_min_messages = error",
                milliseconds(settings.statement_timeout),
                milliseconds(settings.lock_timeout)
            ))))
            .await?;
        Ok(connection)
    }
}
