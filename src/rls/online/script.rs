//! What an online setup would do, as statements for a person.

use std::collections::HashSet;
use std::fmt::Write as _;

use sqlx::PgConnection;

use super::keys::{How, Standing, Step};
use super::{Pace, check, is_key, key_column, planned};
use crate::Result;
use crate::rls::platform::{explain, look};
use crate::rls::protection::{Protection, Step as Planned, TableKind, TableProtection, comment};
use crate::rls::setup::{Setup, propose, targets};

/// Steps to NOT NULL where nothing of it stands: the proof, its validation, the column.
const FRESH: usize = 3;

/// What one table lacks: steps that are committed one by one, and statements of one transaction.
struct Wanted {
    keys: Vec<Step>,
    together: Vec<String>,
}

/// What [`setup`](super::setup) would do and the same as a script for psql, without doing any of it.
///
/// # Errors
/// Those of [`plan`](crate::rls::setup::plan), and [`Error::Invalid`](crate::Error::Invalid) with `harden` or without a
/// lock timeout.
pub async fn plan(
    connection: &mut PgConnection,
    options: &Setup,
    pace: Pace,
) -> Result<(Protection, String)> {
    check(options)?;
    pace.check()?;
    let (targets, notes) = targets(&mut *connection, options).await?;
    let mut tables = Vec::with_capacity(targets.len());
    let mut wanted = Vec::with_capacity(targets.len());
    let mut heirs = HashSet::new();
    for target in &targets {
        let steps = planned(&mut *connection, target, options).await?;
        let mut keys = match key_column(target) {
            Some(column) => {
                let mut look = look(&mut *connection).await?;
                let standing = Standing::load(&mut look, target.relation, column).await?;
                look.rollback().await?;
                standing.steps(&steps)
            }
            None => Vec::new(),
        };
        // A child has its parent's NOT NULL by then; said again it would be its own as well (PostgreSQL 18). Steps of a run
        // that was ended stay.
        let not_null = keys.iter().filter(|step| step.action == "not_null").count();
        if not_null == FRESH && heirs.contains(&target.relation.0) {
            keys.retain(|step| step.action != "not_null");
        } else if not_null > 0 {
            let family = sqlx::query_file_scalar!("sql/rls/family.sql", target.relation);
            heirs.extend(family.fetch_all(&mut *connection).await?.into_iter().map(|oid| oid.0));
        }
        let (taken_apart, rest): (Vec<Planned>, Vec<Planned>) = steps.into_iter().partition(is_key);
        drop(taken_apart);
        let together = rest.iter().filter_map(|step| step.statement.clone()).collect();
        let mut all: Vec<Planned> = keys.iter().flat_map(planned_as).collect();
        all.extend(rest);
        tables.push(target.outcome(all));
        wanted.push(Wanted { keys, together });
    }
    propose(&mut *connection, &targets, &mut tables).await?;
    if let Some(mode) = options.on_new_table {
        let steps =
            sqlx::query_file_as!(Planned, "sql/rls/guard_plan.sql", mode.as_str(), &options.tenant_columns)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| explain(error, "database"))?;
        let mut database = TableProtection::new("database".into(), TableKind::Database);
        database.extend(steps);
        if let Some(database) = database.told() {
            wanted.push(Wanted { keys: Vec::new(), together: database.statements.clone() });
            tables.push(database);
        }
    }
    let protection = Protection { tables, notes };
    let script = script(&protection, &wanted, pace);
    Ok((protection, script))
}

/// The statements of a step, under its word.
pub(super) fn planned_as(step: &Step) -> Vec<Planned> {
    let planned =
        |sql: &String| Planned { action: step.action.to_owned(), statement: Some(sql.clone()), note: None };
    step.how.statements().iter().map(planned).collect()
}

fn script(protection: &Protection, wanted: &[Wanted], pace: Pace) -> String {
    let timeout = format!("SET lock_timeout = {};", pace.lock_timeout.as_millis());
    // Writing to a String cannot fail.
    let mut script = format!(
        "-- For psql -v ON_ERROR_STOP=1 -f, without -1: some of it cannot run in a transaction.\n\
         SET search_path = pg_catalog, pg_temp;\n{timeout}\n"
    );
    let mut written = HashSet::new();
    for note in &protection.notes {
        comment(&mut script, &format!("note: {note}"));
    }
    for (table, wanted) in protection.tables.iter().zip(wanted) {
        if table.statements.is_empty() && table.notes.is_empty() {
            continue;
        }
        script.push('\n');
        comment(&mut script, &table.table);
        for note in &table.notes {
            comment(&mut script, &format!("note: {note}"));
        }
        for step in &wanted.keys {
            let statements = step.how.statements().join(";\n");
            let _ = match step.how {
                How::Concurrent(_) | How::Index { .. } => {
                    writeln!(script, "SET lock_timeout = 0;\n{statements};\n{timeout}")
                }
                How::Brief(_) if step.how.statements().len() > 1 => {
                    writeln!(script, "BEGIN;\n{statements};\nCOMMIT;")
                }
                How::Brief(_) | How::Scan(..) => writeln!(script, "{statements};"),
            };
        }
        // What several tables need, such as a right on their schema, comes once.
        let together: Vec<&str> =
            wanted.together.iter().map(String::as_str).filter(|sql| written.insert(*sql)).collect();
        if !together.is_empty() {
            let _ = writeln!(script, "BEGIN;\n{};\nCOMMIT;", together.join(";\n"));
        }
    }
    script
}
