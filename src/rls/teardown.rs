//! Takes the platform's tables out of isolation: undoes what `setup` made, and nothing else.
//!
//! Setup writes down what it changes (`tenancy.isolation_changes`), so policies, keys and rights that were there before
//! stay, and what it took away comes back. Locks are held until the caller's transaction ends: on a live database take a
//! transaction for each table.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use super::platform::{TableRow, explain, find};
use super::protection::{Step, comment};
use super::unfinished;
use crate::{Error, Result, audit};

/// The name under which the database as a whole is told of.
const DATABASE: &str = "database";

/// A table to take out of isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    relation: Oid,
    /// Its name, with the schema, quoted as SQL.
    pub name: String,
}

/// What was undone on one table, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// Its name, with the schema, quoted as SQL.
    pub table: String,
    /// What was undone, a word for each sort of statement: `drop_policy`, `disable`, `drop_index`, …
    pub actions: Vec<String>,
    /// The statements that were carried out, in order.
    pub statements: Vec<String>,
    /// What stays, and why.
    pub notes: Vec<String>,
}

/// The tables under isolation that a person's names mean, with their partitions and children; all where there is no
/// name. Partitions and children come before their parents.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Invalid`] where setup did nothing to a table that was named.
pub async fn targets(tx: &mut PgConnection, names: &[String]) -> Result<Vec<Target>> {
    sqlx::query_file_scalar!("sql/rls/forget_dropped.sql").fetch_one(&mut *tx).await?;
    if names.is_empty() {
        return registered(tx, &[]).await;
    }
    let columns: [String; 0] = [];
    let known =
        sqlx::query_file_as!(TableRow, "sql/rls/tables.sql", &columns[..]).fetch_all(&mut *tx).await?;
    let mut targets = Vec::new();
    for name in names {
        let relation = find(&mut *tx, &known, name).await?;
        let family = sqlx::query_file_scalar!("sql/rls/family.sql", relation).fetch_all(&mut *tx).await?;
        let found = registered(&mut *tx, &family).await?;
        if found.iter().all(|target| target.relation != relation) {
            return Err(Error::Invalid {
                field: "table",
                value: name.clone(),
                reason: "setup did nothing to it".into(),
                hint: Some("leave --table out to undo all that setup made".into()),
            });
        }
        for target in found {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    Ok(targets)
}

async fn registered(tx: &mut PgConnection, relations: &[Oid]) -> Result<Vec<Target>> {
    Ok(sqlx::query_file_as!(Target, "sql/rls/registered.sql", relations).fetch_all(tx).await?)
}

/// Undoes what setup made of one table, in the caller's transaction and as the connecting role: changing a table takes
/// its owner or a superuser. Roll the transaction back for a dry run.
pub async fn teardown(tx: &mut PgConnection, target: &Target) -> Result<Removal> {
    let mut steps = unfinished::remove(&mut *tx, target.relation).await?;
    steps.extend(
        sqlx::query_file_as!(Step, "sql/rls/dismantle.sql", target.relation)
            .fetch_all(&mut *tx)
            .await
            .map_err(|error| explain(error, &target.name))?,
    );
    let removal = removal(&target.name, steps);
    if !removal.statements.is_empty() {
        audit::record(tx, "rls.teardown", None, serde_json::json!({ "table": removal.table })).await?;
    }
    Ok(removal)
}

/// What [`teardown`] of each of these tables would do, one after the other, without doing any of it.
pub async fn plan(connection: &mut PgConnection, targets: &[Target]) -> Result<Vec<Removal>> {
    let mut gone = Vec::with_capacity(targets.len());
    let mut removals = Vec::with_capacity(targets.len());
    for target in targets {
        let mut steps = unfinished::removal(&mut *connection, target.relation).await?;
        steps.extend(
            sqlx::query_file_as!(Step, "sql/rls/removal.sql", target.relation, &gone)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| explain(error, &target.name))?,
        );
        removals.push(removal(&target.name, steps));
        gone.push(target.relation);
    }
    Ok(removals)
}

/// Undoes what setup made of the database as a whole (the event trigger on new tables, what hardening took from PUBLIC),
/// in the caller's transaction; `None` where it made nothing.
pub async fn teardown_database(tx: &mut PgConnection) -> Result<Option<Removal>> {
    let steps = sqlx::query_file_as!(Step, "sql/rls/dismantle_database.sql")
        .fetch_all(&mut *tx)
        .await
        .map_err(|error| explain(error, DATABASE))?;
    let removal = removal(DATABASE, steps);
    if removal.statements.is_empty() {
        return Ok(None);
    }
    audit::record(tx, "rls.teardown", None, serde_json::json!({ "table": removal.table })).await?;
    Ok(Some(removal))
}

/// What [`teardown_database`] would do, without doing any of it.
pub async fn plan_database(connection: &mut PgConnection) -> Result<Option<Removal>> {
    let steps =
        sqlx::query_file_as!(Step, "sql/rls/database_removal.sql").fetch_all(&mut *connection).await?;
    let removal = removal(DATABASE, steps);
    Ok((!removal.statements.is_empty()).then_some(removal))
}

/// The statements of [`plan`] as a script for psql.
pub fn script(removals: &[Removal]) -> String {
    let mut script = String::from("BEGIN;\nSET LOCAL search_path = pg_catalog, pg_temp;\n");
    let mut written = HashSet::new();
    for removal in removals {
        script.push('\n');
        comment(&mut script, &removal.table);
        for note in &removal.notes {
            comment(&mut script, &format!("note: {note}"));
        }
        for statement in removal.statements.iter().filter(|statement| written.insert(statement.as_str())) {
            // Writing to a String cannot fail.
            let _ = writeln!(script, "{statement};");
        }
    }
    script.push_str("\nCOMMIT;\n");
    script
}

fn removal(table: &str, steps: Vec<Step>) -> Removal {
    let mut removal =
        Removal { table: table.to_owned(), actions: Vec::new(), statements: Vec::new(), notes: Vec::new() };
    for step in steps {
        if step.action != "note" && !removal.actions.contains(&step.action) {
            removal.actions.push(step.action);
        }
        removal.statements.extend(step.statement);
        removal.notes.extend(step.note);
    }
    removal
}
