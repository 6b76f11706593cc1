//! Rows that were joined across tenants before anybody looked: one join for each reference that does not carry the
//! tenant, with the rights of whoever verifies.

use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;
use crate::db::quote::{ident, trusted};
use crate::rls::catalog::Suspicion;
use crate::rls::check::{self, Check};
use crate::rls::report::{Finding, NotProven, Source, fingerprint};
use crate::rls::scope::Scope;

/// The check that all of this is for.
pub(crate) const CHECK: &str = "data-drift";

/// How many rows are counted before it is "more".
const BOUND: i64 = 1000;

/// A reference from one tenant table to another, neither of whose sides names the tenant.
#[derive(sqlx::FromRow)]
struct Reference {
    relation: Oid,
    object: String,
    object_kind: String,
    constraint_name: String,
    partitioned: bool,
    parent_partitioned: bool,
    schema: String,
    name: String,
    tenant_column: String,
    parent_schema: String,
    parent_name: String,
    parent_column: String,
    same_type: bool,
    visible: bool,
    own: Vec<String>,
    other: Vec<String>,
    nullable: bool,
}

impl Reference {
    /// The two tables, `c` and `p`. A reference goes for a table without what inherits from it.
    fn tables(&self) -> (String, String) {
        let table = |partitioned: bool, schema: &str, name: &str, alias: &str| {
            let only = if partitioned { "" } else { "ONLY " };
            format!("{only}{}.{} AS {alias}", ident(schema), ident(name))
        };
        (
            table(self.partitioned, &self.schema, &self.name, "c"),
            table(self.parent_partitioned, &self.parent_schema, &self.parent_name, "p"),
        )
    }

    /// What is true of two rows of different tenants that belong together.
    fn condition(&self) -> String {
        // Where the types differ there may be no operator between them.
        let cast = if self.same_type { "" } else { "::pg_catalog.text" };
        let mut terms: Vec<String> = self
            .own
            .iter()
            .zip(&self.other)
            .map(|(own, other)| format!("c.{} = p.{}", ident(own), ident(other)))
            .collect();
        terms.push(format!(
            "c.{}{cast} <> p.{}{cast}",
            ident(&self.tenant_column),
            ident(&self.parent_column)
        ));
        terms.join(" AND ")
    }

    fn query(&self, columns: &str) -> String {
        let (child, parent) = self.tables();
        format!("SELECT {columns} FROM {child} JOIN {parent} ON {}", self.condition())
    }

    /// Shows the rows and lets go of them; that they may go is for a person to say.
    fn fix(&self) -> String {
        let ((child, parent), condition) = (self.tables(), self.condition());
        let change = if self.nullable {
            let unlinked: Vec<String> = self.own.iter().map(|own| format!("{} = NULL", ident(own))).collect();
            format!("UPDATE {child} SET {} FROM {parent} WHERE {condition}", unlinked.join(", "))
        } else {
            format!("DELETE FROM {child} USING {parent} WHERE {condition}")
        };
        format!("BEGIN; {}; {change}; -- COMMIT; if these rows may go", self.query("c.*"))
    }

    fn finding(&self, check: &Check, count: i64) -> Suspicion {
        let rows = match count {
            1 => "1 row".to_string(),
            count if count > BOUND => format!("more than {BOUND} rows"),
            count => format!("{count} rows"),
        };
        let parent = format!("{}.{}", ident(&self.parent_schema), ident(&self.parent_name));
        Suspicion {
            relation: Some(self.relation),
            provable: false,
            detail: self.constraint_name.clone(),
            finding: Finding {
                check: check.id.into(),
                severity: check.severity,
                object: self.object.clone(),
                object_kind: self.object_kind.clone(),
                message: format!("{rows} refer to a row of {parent} that belongs to another tenant"),
                evidence: self.query("*"),
                fix: self.fix(),
                fingerprint: fingerprint(check.id, &self.object, &self.constraint_name),
                source: Source::Probe,
                path: Vec::new(),
            },
        }
    }
}

/// Looks through every reference that could cross. What cannot be read to its end is not proven.
pub(crate) async fn run(
    connection: &mut PgConnection,
    scope: &Scope,
    lock_timeout: Duration,
    statement_timeout: Duration,
) -> Result<(Vec<Suspicion>, Vec<NotProven>)> {
    let check = check::named(CHECK)?;
    let references: Vec<Reference> = sqlx::query_as(include_str!("../../sql/rls/drift.sql"))
        .bind(scope.tables.iter().map(|table| table.oid).collect::<Vec<_>>())
        .bind(scope.tables.iter().map(|table| table.tenant_column.clone()).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    let (mut found, mut unproven) = (Vec::new(), Vec::new());
    let limits = format!(
        "SAVEPOINT drift; SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}",
        lock_timeout.as_millis(),
        statement_timeout.as_millis(),
    );
    for reference in references {
        let mut unread = |why: &str| {
            unproven.push(NotProven {
                object: reference.object.clone(),
                reason: format!(
                    "whether rows of {} cross through {}: {why}",
                    reference.object,
                    ident(&reference.constraint_name)
                ),
            });
        };
        if !reference.visible {
            unread("whoever verifies does not see all rows");
            continue;
        }
        sqlx::raw_sql(trusted(limits.clone())).execute(&mut *connection).await?;
        let bounded =
            format!("SELECT count(*) FROM ({} LIMIT {}) AS bounded", reference.query("1"), BOUND + 1);
        let count: std::result::Result<i64, sqlx::Error> =
            sqlx::query_scalar(trusted(bounded)).fetch_one(&mut *connection).await;
        match count {
            Ok(0) => {}
            Ok(count) => found.push(reference.finding(check, count)),
            Err(sqlx::Error::Database(error)) => unread(error.message()),
            Err(error) => return Err(error.into()),
        }
        connection.execute("ROLLBACK TO SAVEPOINT drift").await?;
    }
    Ok((found, unproven))
}
