//! Runs the checks over the system catalogue: one snapshot, one query a check, none per table.

use std::collections::HashMap;

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;
use crate::rls::check::Check;
use crate::rls::path;
use crate::rls::report::{Finding, Severity, Source, fingerprint};
use crate::rls::scope::Scope;

/// A finding, with what is needed to hold it against what the probes saw.
#[derive(Debug, Clone)]
pub(crate) struct Suspicion {
    pub(crate) relation: Option<Oid>,
    pub(crate) provable: bool,
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

/// Every finding of the checks about one application role.
pub(crate) async fn run(
    connection: &mut PgConnection,
    scope: &Scope,
    checks: &[&Check],
) -> Result<Vec<Suspicion>> {
    let tables: Vec<Oid> = scope.tables.iter().map(|table| table.oid).collect();
    let columns: Vec<Option<String>> = scope.tables.iter().map(|table| table.tenant_column.clone()).collect();
    let reachable: Vec<bool> = scope.tables.iter().map(|table| table.reachable).collect();
    let roles: Vec<Oid> = scope.roles.iter().map(|role| role.oid).collect();
    let settable: Vec<Oid> = scope.roles.iter().filter(|role| role.settable).map(|role| role.oid).collect();
    let settings = scope.acting.settings();
    let policies: Vec<Expressions> = sqlx::query_as(include_str!("../../sql/rls/expressions.sql"))
        .bind(&tables)
        .fetch_all(&mut *connection)
        .await?;
    let oids: Vec<Oid> = policies.iter().map(|policy| policy.oid).collect();
    let Said { of: said, quals, written, wholes } = Said::by(&policies);
    let mut found = Vec::new();
    let (mut routed, mut routes) = (Vec::new(), Vec::new());
    for check in checks {
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
        let rows: Vec<Row> = query.fetch_all(&mut *connection).await?;
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
