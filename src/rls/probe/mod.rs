//! The probes: two synthetic tenants are given rows in every table, every statement that could cross from one to the
//! other is tried as the application role, and all of it is rolled back.

mod attack;
mod batch;
mod climb;
mod commands;
mod doors;
mod ground;
mod judge;
mod knock;
mod openers;
mod oracles;
mod pgtap;
mod plain;
mod prepare;
mod repro;
mod row;
mod runner;
mod sample;
mod schema;
mod seed;
mod values;
mod views;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::Result;
use crate::rls::probe::batch::{Batch, Shared};
pub(crate) use crate::rls::probe::ground::{Ground, ground};
use crate::rls::report::{Attempts, NotProven, Severity, TableVerdict, Tests};
use crate::rls::scope::{Scope, Session};

/// How far the probes are, for whoever draws a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tables that are done.
    pub done: usize,
    /// Tables in all.
    pub total: usize,
}

/// How the probes run.
#[derive(Clone, Copy)]
pub(crate) struct Settings<'a> {
    pub(crate) connect: &'a PgConnectOptions,
    pub(crate) lock_timeout: std::time::Duration,
    pub(crate) statement_timeout: std::time::Duration,
    pub(crate) progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    /// Whether the attacks are wanted as tests.
    pub(crate) tests: bool,
    /// By table the names of keys that the catalogue suspects of telling what other tenants have.
    pub(crate) suspected: &'a BTreeMap<u32, Vec<String>>,
}

/// A statement that got through, as the check that it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Leak {
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    pub(crate) object: String,
    pub(crate) object_kind: String,
    /// Which of several such defects of the object, in the words of the check.
    pub(crate) detail: String,
    pub(crate) message: String,
    pub(crate) evidence: String,
}

/// What the probes found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Results {
    pub(crate) leaks: Vec<Leak>,
    pub(crate) not_proven: Vec<NotProven>,
    pub(crate) attempts: Attempts,
    pub(crate) verdicts: Vec<TableVerdict>,
    /// Tables, views and functions that a suspicion may be dropped for: every probe of theirs failed.
    pub(crate) cleared: BTreeSet<u32>,
    /// SQL that shows a leak, by check and object.
    pub(crate) scripts: repro::Scripts,
    /// The attacks as tests.
    pub(crate) tests: Tests,
    /// Whether the connection is out of step with the server, and good for nothing but to be closed.
    pub(crate) spoiled: bool,
}

/// How many tables are under attack in one transaction: enough to share the round trips, few enough to keep the locks
/// that it holds within PostgreSQL's default.
const BATCH: usize = 150;

/// Attacks every table in the scope; what was found until then stays in the results where it ends early.
pub(crate) async fn run(
    connection: &mut PgConnection,
    settings: &Settings<'_>,
    session: &Session,
    scope: &Scope,
    results: &mut Results,
) -> Result<()> {
    if let Some(reason) = impossible(session, scope) {
        let tables = scope.tables.iter();
        results
            .not_proven
            .extend(tables.map(|table| NotProven { object: table.name.clone(), reason: reason.clone() }));
        return Ok(());
    }
    let Prepared { shared, nodes, oids } = prepared(connection, settings, session, scope, results).await?;
    let mut done = 0;
    for targets in batches(&nodes, &oids.iter().map(|oid| oid.0).collect::<Vec<_>>()) {
        let batch = Batch::of(&shared, &nodes, targets);
        done = batch.run(done, results).await?;
    }
    for table in scope.tables.iter().filter(|table| !table.reachable && table.is_partition) {
        results.cleared.insert(table.oid.0);
    }
    Ok(())
}

/// What the attacks need to know before the first of them.
struct Prepared<'a> {
    shared: Shared<'a>,
    nodes: BTreeMap<u32, schema::Node>,
    /// The tables under attack.
    oids: Vec<Oid>,
}

async fn prepared<'a>(
    connection: &mut PgConnection,
    settings: &'a Settings<'a>,
    session: &Session,
    scope: &'a Scope,
    results: &mut Results,
) -> Result<Prepared<'a>> {
    let wanted: Vec<_> = scope
        .tables
        .iter()
        .filter(|table| table.reachable || !table.is_partition)
        .map(|table| (table.oid, table.tenant_column.clone()))
        .collect();
    let oids: Vec<_> = wanted.iter().map(|(oid, _)| *oid).collect();
    let (attackers, out_of_hand): (Vec<_>, Vec<_>) =
        scope.roles.iter().filter(|role| role.settable && !role.exempt()).partition(|role| role.attackable);
    results.not_proven.extend(out_of_hand.into_iter().map(|role| NotProven {
        object: crate::db::quote::ident(&role.name),
        reason: "whoever verifies may not act as this login of the application".into(),
    }));
    let roles: Vec<_> = attackers.iter().map(|role| role.oid).collect();
    let prepared = prepare::tables(connection, &scope.acting).await?;
    let mut needed = wanted.clone();
    for oid in prepared.iter().flatten().filter(|oid| !oids.contains(oid)) {
        needed.push((*oid, None));
    }
    let nodes = schema::nodes(connection, &needed).await?;
    let shared = Shared {
        scope,
        settings,
        privileged: session.privileged,
        attackers,
        privileges: schema::privileges(connection, &oids, &roles).await?,
        policies: schema::policies(connection, &oids).await?,
        views: views::views(connection, &oids, &roles).await?,
        functions: doors::functions(connection, &roles).await?,
        tables: scope.tables.iter().map(|table| (table.oid.0, table)).collect(),
        prepared: prepared.iter().map(|oid| oid.map(|oid| oid.0)).collect(),
    };
    Ok(Prepared { shared, nodes, oids })
}

/// Attacks every table in the scope in the transaction that the connection is in, and leaves the rows that it made there.
pub(crate) async fn within(
    connection: &mut PgConnection,
    settings: &Settings<'_>,
    session: &Session,
    scope: &Scope,
) -> Result<Results> {
    let mut results = Results::default();
    if let Some(reason) = impossible(session, scope) {
        let tables = scope.tables.iter();
        results
            .not_proven
            .extend(tables.map(|table| NotProven { object: table.name.clone(), reason: reason.clone() }));
        return Ok(results);
    }
    let Prepared { shared, nodes, oids } =
        prepared(connection, settings, session, scope, &mut results).await?;
    let targets: Vec<u32> = oids.iter().map(|oid| oid.0).collect();
    let batch = Batch::of(&shared, &nodes, targets);
    batch.attack(connection, 0, &mut results).await?;
    Ok(results)
}

/// Why no probe can run at all.
fn impossible(session: &Session, scope: &Scope) -> Option<String> {
    if scope.app.exempt() {
        Some(format!("{} bypasses row-level security", scope.app.name))
    } else if session.in_recovery {
        Some("the server is a standby: nothing can be written, not even to be rolled back".into())
    } else if scope.acting.is_locked() {
        Some("the context is sealed, and whoever verifies has no key that signs it".into())
    } else {
        None
    }
}

/// Tables that reference each other stay together, small groups share a batch.
fn batches(nodes: &BTreeMap<u32, schema::Node>, targets: &[u32]) -> Vec<Vec<u32>> {
    let wanted: BTreeSet<u32> = targets.iter().copied().collect();
    let mut group: BTreeMap<u32, u32> = targets.iter().map(|oid| (*oid, *oid)).collect();
    fn root(group: &mut BTreeMap<u32, u32>, oid: u32) -> u32 {
        let mut at = oid;
        while let Some(next) = group.get(&at).copied().filter(|next| *next != at) {
            let further = group.get(&next).copied().unwrap_or(next);
            group.insert(at, further);
            at = further;
        }
        at
    }
    for oid in targets {
        let Some(node) = nodes.get(oid) else { continue };
        for key in node.references() {
            // The tenants' own table is every table's parent; it is filled anew in each batch.
            let to_tenants = key.columns.len() == 1 && key.columns.first().copied() == node.tenant;
            if wanted.contains(&key.referenced.0) && !to_tenants {
                let (a, b) = (root(&mut group, *oid), root(&mut group, key.referenced.0));
                group.insert(a, b);
            }
        }
    }
    let mut groups: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for oid in targets {
        let of = root(&mut group, *oid);
        groups.entry(of).or_default().push(*oid);
    }
    let mut batches: Vec<Vec<u32>> = Vec::new();
    for group in groups.into_values() {
        match batches.last_mut().filter(|batch| batch.len() + group.len() <= BATCH) {
            Some(batch) => batch.extend(group),
            None => batches.push(group),
        }
    }
    batches
}

impl<'a> Batch<'a> {
    fn of(shared: &'a Shared<'a>, nodes: &BTreeMap<u32, schema::Node>, targets: Vec<u32>) -> Self {
        // What makes a user a member must be there in every transaction.
        let all: Vec<u32> =
            targets.iter().copied().chain(shared.prepared.iter().flatten().copied()).collect();
        Self { shared, nodes: with_parents(nodes, &all), targets }
    }
}

/// The tables with everything that they reference.
fn with_parents(nodes: &BTreeMap<u32, schema::Node>, targets: &[u32]) -> BTreeMap<u32, schema::Node> {
    let mut found = BTreeMap::new();
    let mut work = targets.to_vec();
    while let Some(oid) = work.pop() {
        if found.contains_key(&oid) {
            continue;
        }
        if let Some(node) = nodes.get(&oid) {
            work.extend(node.references().map(|key| key.referenced.0));
            found.insert(oid, node.clone());
        }
    }
    found
}
