//! What an online setup would do, as statements for a person.

use std::collections::HashSet;
use std::fmt::Write as _;

use sqlx::postgres::types::Oid;
use sqlx::{Connection, PgConnection};

use super::harden::{self, is_key as is_hardening_key, replacements, unproven};
use super::keys::{How, Standing, Step};
use super::{Pace, check, is_key, key_column, planned};
use crate::Result;
use crate::db::quote::trusted;
use crate::rls::platform::{explain, look};
use crate::rls::protection::{Protection, Step as Planned, TableKind, TableProtection, comment};
use crate::rls::setup::{Setup, Target, propose, targets};

/// Steps to NOT NULL where nothing of it stands: the proof, its validation, the column.
const FRESH: usize = 3;

/// A part of the script: steps that are committed one by one, then statements of one transaction.
struct Section {
    name: String,
    notes: Vec<String>,
    steps: Vec<Step>,
    together: Vec<String>,
}

/// What the hardening of a plan takes for granted.
#[derive(Default)]
struct Granted {
    /// Statements that register tables.
    register: Vec<String>,
    /// Tables that are not registered yet.
    fresh: HashSet<u32>,
    /// Tables whose tenant column is to be NOT NULL.
    not_null: Vec<Oid>,
}

/// What [`setup`](super::setup) would do and the same as a script for psql, without doing any of it.
///
/// # Errors
/// Those of [`plan`](crate::rls::setup::plan), and [`Error::Invalid`](crate::Error::Invalid) with `context` or without a
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
    let mut sections = Vec::with_capacity(targets.len());
    let mut granted = Granted::default();
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
            let family = family.fetch_all(&mut *connection).await?;
            heirs.extend(family.iter().map(|oid| oid.0));
            granted.not_null.extend(family);
        }
        let register = steps.iter().filter(|step| step.action == "register");
        let register: Vec<String> = register.filter_map(|step| step.statement.clone()).collect();
        if !register.is_empty() {
            granted.fresh.insert(target.relation.0);
            granted.register.extend(register);
        }
        let (taken_apart, rest): (Vec<Planned>, Vec<Planned>) = steps.into_iter().partition(is_key);
        drop(taken_apart);
        let together = rest.iter().filter_map(|step| step.statement.clone()).collect();
        let mut all: Vec<Planned> = keys.iter().flat_map(planned_as).collect();
        all.extend(rest);
        tables.push(target.outcome(all));
        sections.push(Section { name: target.name.clone(), notes: Vec::new(), steps: keys, together });
    }
    let mut database = TableProtection::new("database".into(), TableKind::Database);
    if options.harden {
        let mut attempt = connection.begin().await?;
        let whole = options.tables.is_empty();
        hardening(&mut attempt, &targets, &granted, &mut tables, &mut sections, whole).await?;
        if whole {
            database.extend(
                sqlx::query_file_as!(Planned, "sql/rls/online/database.sql").fetch_all(&mut *attempt).await?,
            );
        }
        attempt.rollback().await?;
    } else {
        propose(&mut *connection, &targets, &mut tables).await?;
    }
    // What a table's notes say is about all of its sections.
    for table in &tables {
        if let Some(section) = sections.iter_mut().find(|section| section.name == table.table) {
            section.notes.clone_from(&table.notes);
        }
    }
    if let Some(mode) = options.on_new_table {
        let steps =
            sqlx::query_file_as!(Planned, "sql/rls/guard_plan.sql", mode.as_str(), &options.tenant_columns)
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| explain(error, "database"))?;
        database.extend(steps);
    }
    if let Some(database) = database.told() {
        sections.push(Section {
            name: database.table.clone(),
            notes: database.notes.clone(),
            steps: Vec::new(),
            together: database.statements.clone(),
        });
        tables.push(database);
    }
    let protection = Protection { tables, notes };
    let script = script(&protection.notes, &sections, pace);
    Ok((protection, script))
}

/// What the tables lack of hardening once all that is planned so far stands. What it takes for that goes with the
/// transaction.
async fn hardening(
    tx: &mut PgConnection,
    targets: &[Target],
    granted: &Granted,
    tables: &mut Vec<TableProtection>,
    sections: &mut Vec<Section>,
    views: bool,
) -> Result<()> {
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog, pg_temp").execute(&mut *tx).await?;
    for statement in &granted.register {
        sqlx::raw_sql(trusted(statement.clone())).execute(&mut *tx).await?;
    }
    let tenants: Vec<Oid> =
        targets.iter().filter(|target| target.is_tenant()).map(|target| target.relation).collect();
    sqlx::query_file!("sql/rls/online/grant.sql", &granted.not_null, &tenants).fetch_one(&mut *tx).await?;

    let mut chosen = HashSet::new();
    let mut keys = HashSet::new();
    let mut spares = HashSet::new();
    let mut replaced = Vec::new();
    // What stands in the way is told last, as when it is done.
    let mut obstacles = Vec::new();
    let left = unproven(tx).await?;
    for (target, table) in targets.iter().zip(&mut *tables) {
        let left = left.iter().filter(|(relation, ..)| *relation == target.relation);
        let steps: Vec<Step> = left
            .map(|(_, _, statement)| Step {
                relation: target.relation,
                action: "foreign_key",
                how: How::Proof(statement.clone(), vec![target.relation]),
            })
            .collect();
        push(table, sections, steps, Vec::new());
    }
    for unique in [true, false] {
        for (target, table) in targets.iter().zip(&mut *tables).filter(|(target, _)| target.is_tenant()) {
            let (mut ahead, mut swap) = (Vec::new(), Vec::new());
            for found in replacements(tx, target.relation, unique, &replaced).await? {
                if found.new_key().is_some_and(|key| !keys.insert(key)) {
                    continue;
                }
                let Some(steps) = found.steps(tx, &mut chosen).await? else {
                    if let Some(note) = found.note {
                        obstacles.push((target.relation, note));
                    }
                    continue;
                };
                if unique {
                    replaced.extend(found.key);
                }
                spares.extend(found.spare);
                table.notes.extend(found.caveats);
                ahead.extend(steps.ahead);
                swap.extend(steps.swap);
            }
            ahead.extend(swap);
            push(table, sections, ahead, Vec::new());
        }
    }
    for (target, table) in targets.iter().zip(&mut *tables).filter(|(target, _)| target.is_tenant()) {
        let fresh = granted.fresh.contains(&target.relation.0);
        let mut steps = harden::missing(tx, target.relation, &target.name, fresh).await?;
        // The notes are those of the keys, which have been told.
        steps.retain(|step| step.statement.is_some() && !is_hardening_key(step));
        push(table, sections, Vec::new(), steps);
        let own = obstacles.iter().filter(|(relation, _)| *relation == target.relation);
        table.notes.extend(own.map(|(_, note)| note.clone()));
    }
    for spare in harden::spares(tx).await? {
        if !spares.contains(&spare.object) {
            let how = How::Concurrent(spare.statement);
            let step = Step { relation: spare.relation, action: "drop_index", how };
            sections.push(Section {
                name: spare.name,
                notes: Vec::new(),
                steps: vec![step],
                together: Vec::new(),
            });
        }
    }
    if views {
        for view in sqlx::query_file!("sql/rls/views.sql").fetch_all(&mut *tx).await? {
            let steps = harden::missing(tx, view.relation, &view.name, false).await?;
            let mut table = TableProtection::new(view.name, TableKind::View);
            push(&mut table, sections, Vec::new(), steps);
            tables.push(table);
        }
    }
    Ok(())
}

/// Adds to what is told of a table, and to the script.
fn push(table: &mut TableProtection, sections: &mut Vec<Section>, steps: Vec<Step>, rest: Vec<Planned>) {
    table.extend(steps.iter().flat_map(planned_as).collect());
    let together = rest.iter().filter_map(|step| step.statement.clone()).collect();
    table.extend(rest);
    sections.push(Section { name: table.table.clone(), notes: Vec::new(), steps, together });
}

/// The statements of a step, under its word.
pub(super) fn planned_as(step: &Step) -> Vec<Planned> {
    let planned =
        |sql: &String| Planned { action: step.action.to_owned(), statement: Some(sql.clone()), note: None };
    let mut all: Vec<Planned> = step.how.statements().iter().map(planned).collect();
    if let (How::Swap { note, .. }, Some(last)) = (&step.how, all.last_mut()) {
        last.note.clone_from(note);
    }
    all
}

fn script(notes: &[String], sections: &[Section], pace: Pace) -> String {
    let timeout = format!("SET lock_timeout = {};", pace.lock_timeout.as_millis());
    // Writing to a String cannot fail.
    let mut script = format!(
        "-- For psql -v ON_ERROR_STOP=1 -f, without -1: some of it cannot run in a transaction.\n\
         SET search_path = pg_catalog, pg_temp;\n{timeout}\n"
    );
    let mut written = HashSet::new();
    for note in notes {
        comment(&mut script, &format!("note: {note}"));
    }
    for section in sections {
        if section.steps.is_empty() && section.together.is_empty() && section.notes.is_empty() {
            continue;
        }
        script.push('\n');
        comment(&mut script, &section.name);
        for note in &section.notes {
            comment(&mut script, &format!("note: {note}"));
        }
        for step in &section.steps {
            let statements = step.how.statements().join(";\n");
            let _ = match &step.how {
                How::Concurrent(_) | How::Index { .. } => {
                    writeln!(script, "SET lock_timeout = 0;\n{statements};\n{timeout}")
                }
                How::Swap { touched, .. } if touched.len() > 1 => {
                    let early = pace.early().as_millis();
                    writeln!(script, "BEGIN;\nSET LOCAL lock_timeout = {early};\n{statements};\nCOMMIT;")
                }
                How::Brief(_) | How::Swap { .. } if step.how.statements().len() > 1 => {
                    writeln!(script, "BEGIN;\n{statements};\nCOMMIT;")
                }
                _ => writeln!(script, "{statements};"),
            };
        }
        // What several tables need, such as a right on their schema, comes once.
        let together: Vec<&str> =
            section.together.iter().map(String::as_str).filter(|sql| written.insert(*sql)).collect();
        if !together.is_empty() {
            let _ = writeln!(script, "BEGIN;\n{};\nCOMMIT;", together.join(";\n"));
        }
    }
    script
}
