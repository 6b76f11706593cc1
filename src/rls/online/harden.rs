//! Hardening in steps: each key that has to carry the tenant is built beside the old one, takes its place in a moment, and
//! the references to it are proven afterwards.
//!
//! What is to be replaced is what the offline hardening says; `tenancy.online_uniques` and `tenancy.online_references` take
//! its statements apart. A key that is built is found by the name that it has until then, a reference that is not proven by
//! what was written down of it.

use std::collections::HashSet;

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use super::keys::{self, How, object_name};
use super::{Ended, Online, ROUNDS, begin, begin_change, busy, hurry, record};
use crate::Result;
use crate::db::quote::ident;
use crate::rls::harden;
use crate::rls::platform::{explain, look};
use crate::rls::protection::{Step, TableKind, TableProtection};
use crate::rls::setup::{Setup, Target};

/// A key or a reference that is replaced, or a note on what keeps it from that.
pub(super) struct Replacement {
    action: Option<String>,
    /// The unique key that goes.
    pub(super) key: Option<Oid>,
    relation: Option<Oid>,
    schema: Option<Oid>,
    schema_name: Option<String>,
    table: Option<String>,
    name: String,
    pub(super) spare: Option<String>,
    build: Option<String>,
    ready: bool,
    unfit: bool,
    builder: Option<i32>,
    columns: Option<Vec<String>>,
    statements: Option<Vec<String>>,
    proofs: Vec<String>,
    touched: Vec<Oid>,
    pub(super) note: Option<String>,
    /// What the brief step does that is not brief on a large table.
    pub(super) caveats: Vec<String>,
}

/// The steps of a [`Replacement`].
pub(super) struct Steps {
    /// What is built ahead, while the old key stands.
    pub(super) ahead: Vec<keys::Step>,
    /// What takes its place, and proves it.
    pub(super) swap: Vec<keys::Step>,
}

/// What a table's unique keys, or its references, lack. `replaced` are keys that a plan takes for replaced.
pub(super) async fn replacements(
    connection: &mut PgConnection,
    relation: Oid,
    unique: bool,
    replaced: &[Oid],
) -> Result<Vec<Replacement>> {
    let mut look = look(connection).await?;
    let found = if unique {
        sqlx::query_file_as!(Replacement, "sql/rls/online/uniques.sql", relation)
            .fetch_all(&mut *look)
            .await?
    } else {
        sqlx::query_file_as!(Replacement, "sql/rls/online/references.sql", relation, replaced)
            .fetch_all(&mut *look)
            .await?
    };
    look.rollback().await?;
    Ok(found)
}

impl Replacement {
    /// What tells a new key from others: references of several tables can need the same.
    pub(super) fn new_key(&self) -> Option<(u32, Vec<String>)> {
        let mut columns = self.columns.clone()?;
        columns.sort_unstable();
        Some((self.relation?.0, columns))
    }

    /// `None` where it is a note. `chosen` are names of keys that others of the same plan take.
    pub(super) async fn steps(
        &self,
        connection: &mut PgConnection,
        chosen: &mut HashSet<(u32, String)>,
    ) -> Result<Option<Steps>> {
        let (Some(statements), Some(relation)) = (&self.statements, self.relation) else { return Ok(None) };
        let action = match self.action.as_deref() {
            Some("unique_key") => "unique_key",
            Some("key") => "key",
            _ => "foreign_key",
        };
        let step = |how| keys::Step { relation, action, how };
        let mut ahead = Vec::new();
        let mut statements = statements.clone();
        if let (Some(spare), Some(build)) = (&self.spare, &self.build) {
            if self.unfit {
                let schema = self.schema_name.as_deref().unwrap_or_default();
                ahead.push(step(How::Concurrent(format!(
                    "DROP INDEX CONCURRENTLY {}.{}",
                    ident(schema),
                    ident(spare)
                ))));
            }
            if !self.ready {
                ahead.push(step(How::Index { name: spare.clone(), statement: build.clone() }));
            }
            if let (Some(columns), Some(schema), Some(table)) = (&self.columns, self.schema, &self.table) {
                let name = key_name(connection, chosen, schema, table, columns).await?;
                statements.push(format!(
                    "ALTER TABLE {} ADD CONSTRAINT {} UNIQUE USING INDEX {}",
                    self.name,
                    ident(&name),
                    ident(spare)
                ));
            }
        }
        let touched = &self.touched;
        let mut swap = Vec::new();
        // That of a partition takes its place with the whole.
        if !statements.is_empty() {
            swap.push(step(How::Swap { statements, touched: touched.clone(), note: self.note.clone() }));
        }
        swap.extend(self.proofs.iter().map(|proof| step(How::Proof(proof.clone(), touched.clone()))));
        Ok(Some(Steps { ahead, swap }))
    }
}

/// The name that PostgreSQL would choose for a unique key of these columns.
async fn key_name(
    connection: &mut PgConnection,
    chosen: &mut HashSet<(u32, String)>,
    schema: Oid,
    table: &str,
    columns: &[String],
) -> Result<String> {
    let columns = columns.join("_");
    let mut number = 0_u32;
    loop {
        let label = if number == 0 { "key".to_owned() } else { format!("key{number}") };
        let name = object_name(table, &columns, &label);
        let taken = sqlx::query_file_scalar!("sql/rls/online/key_taken.sql", schema, name)
            .fetch_one(&mut *connection)
            .await?;
        if !taken && chosen.insert((schema.0, name.clone())) {
            return Ok(name);
        }
        number += 1;
    }
}

impl Online<'_> {
    /// Hardens what stands under isolation by now.
    pub(super) async fn harden(
        &mut self,
        targets: &[Target],
        tables: &mut Vec<TableProtection>,
        options: &Setup,
    ) -> Result<Vec<String>> {
        // What an ended run has yet to prove.
        let left = self.unproven("the control plane").await?;
        for (target, table) in targets.iter().zip(&mut *tables) {
            for (_, _, statement) in left.iter().filter(|(relation, ..)| *relation == target.relation) {
                let how = How::Proof(statement.clone(), vec![target.relation]);
                let step = keys::Step { relation: target.relation, action: "foreign_key", how };
                if let Ended::Done = self.step(target, &step).await? {
                    table.extend(super::script::planned_as(&step));
                    self.written(&target.name).await?;
                }
            }
        }
        // A reference is between two tables, and its key comes before it.
        for unique in [true, false] {
            for (target, table) in targets.iter().zip(&mut *tables).filter(|(target, _)| target.is_tenant()) {
                let done = self.replace(target, unique).await?;
                if !done.is_empty() {
                    self.written(&target.name).await?;
                }
                table.extend(done);
            }
        }
        for (target, table) in targets.iter().zip(&mut *tables).filter(|(target, _)| target.is_tenant()) {
            table.extend(self.hardening(target.relation, &target.name).await?);
        }
        self.discard_spares().await?;
        if options.tables.is_empty() {
            let views = self
                .again("views", async |session| {
                    let mut tx = begin(session).await?;
                    let views = sqlx::query_file!("sql/rls/views.sql").fetch_all(&mut *tx).await?;
                    tx.commit().await?;
                    Ok(views)
                })
                .await?;
            for view in views {
                let steps = self.hardening(view.relation, &view.name).await?;
                let mut done = TableProtection::new(view.name, TableKind::View);
                done.extend(steps);
                tables.push(done);
            }
        }
        let mut notes = Vec::new();
        for (relation, name, statement) in self.unproven("the control plane").await? {
            let note = format!(
                "reference {} holds for new rows, and a row that was there before breaks it: `{statement}` names it; mend it, \
                 then run this again",
                ident(&name)
            );
            match targets
                .iter()
                .position(|target| target.relation == relation)
                .and_then(|at| tables.get_mut(at))
            {
                Some(table) => table.notes.push(note),
                None => notes.push(note),
            }
        }
        Ok(notes)
    }

    /// What the database as a whole gives away.
    pub(super) async fn harden_database(&mut self) -> Result<Vec<Step>> {
        self.again("database", async |session| {
            let mut tx = begin_change(session).await?;
            let steps = harden::database(&mut tx).await?;
            if steps.iter().any(|step| step.statement.is_some()) {
                record(&mut tx, "database").await?;
            }
            tx.commit().await?;
            Ok(steps)
        })
        .await
    }

    async fn replace(&mut self, target: &Target, unique: bool) -> Result<Vec<Step>> {
        let mut done = Vec::new();
        for _ in 0..ROUNDS {
            let found = self.wanted(target, unique).await?;
            if found.is_empty() {
                return Ok(done);
            }
            // What is built takes long: whether it can take its place is asked again when it stands.
            let built = found.iter().any(|steps| !steps.ahead.is_empty());
            for steps in found {
                for step in if built { steps.ahead } else { steps.swap } {
                    match self.step(target, &step).await? {
                        Ended::Done => done.extend(super::script::planned_as(&step)),
                        Ended::Outdated => break,
                    }
                }
            }
        }
        Err(busy(&target.name, "changes faster than it can be hardened".into()))
    }

    async fn wanted(&mut self, target: &Target, unique: bool) -> Result<Vec<Steps>> {
        self.again(&target.name, async |session| {
            let mut tx = begin(session).await?;
            let mut wanted = Vec::new();
            let mut chosen = HashSet::new();
            for found in replacements(&mut tx, target.relation, unique, &[]).await? {
                if let Some(pid) = found.builder {
                    return Err(busy(&target.name, format!("has an index that pid {pid} is building")));
                }
                wanted.extend(found.steps(&mut tx, &mut chosen).await?);
            }
            tx.commit().await?;
            Ok(wanted)
        })
        .await
    }

    /// All but the keys, in one transaction.
    async fn hardening(&mut self, relation: Oid, name: &str) -> Result<Vec<Step>> {
        let pace = self.pace;
        self.again(name, async |session| {
            let mut tx = begin_change(session).await?;
            let steps = missing(&mut tx, relation, name, false).await?;
            // Whatever came to be since the keys were replaced is the next run's.
            let steps: Vec<Step> =
                steps.into_iter().filter(|step| step.statement.is_none() || !is_key(step)).collect();
            let statements: Vec<&str> = steps.iter().filter_map(|step| step.statement.as_deref()).collect();
            if !statements.is_empty() {
                let before = sqlx::query_file_scalar!("sql/rls/online/facts.sql", &[relation])
                    .fetch_one(&mut *tx)
                    .await?;
                hurry(&mut tx, pace, name, statements.iter().copied()).await?;
                sqlx::query_file_scalar!("sql/rls/online/remember.sql", &[relation], before)
                    .fetch_one(&mut *tx)
                    .await?;
                record(&mut tx, name).await?;
            }
            tx.commit().await?;
            Ok(steps)
        })
        .await
    }

    /// Proves a reference; [`Ended::Outdated`] where a row breaks it.
    pub(super) async fn prove(&mut self, target: &Target, statement: &str, touched: &[Oid]) -> Result<Ended> {
        let proven = self
            .again(&target.name, async |session| {
                let mut tx = begin(session).await?;
                super::execute(&mut tx, statement).await?;
                sqlx::query_file!("sql/rls/online/settle.sql", touched).execute(&mut *tx).await?;
                tx.commit().await
            })
            .await;
        match proven {
            Err(error) if super::pace::state(&error).as_deref() == Some("23503") => Ok(Ended::Outdated),
            other => other.map(|()| Ended::Done),
        }
    }

    async fn unproven(&mut self, name: &str) -> Result<Vec<(Oid, String, String)>> {
        self.again(name, async |session| {
            let mut tx = begin(session).await?;
            let found = unproven(&mut tx).await?;
            tx.commit().await?;
            Ok(found)
        })
        .await
    }

    /// What an ended run built and nobody needs any more.
    async fn discard_spares(&mut self) -> Result<()> {
        let spares = self
            .again("the control plane", async |session| {
                let mut tx = begin(session).await?;
                let spares = spares(&mut tx).await?;
                tx.commit().await?;
                Ok(spares)
            })
            .await?;
        for spare in spares {
            (self.watch.observe)(super::Event::Step { table: &spare.name, statement: &spare.statement });
            self.concurrently(&spare.name, &spare.statement).await?;
            self.again(&spare.name, async |session| {
                let mut tx = begin(session).await?;
                sqlx::query_file!("sql/rls/online/settle.sql", &[spare.relation]).execute(&mut *tx).await?;
                tx.commit().await
            })
            .await?;
        }
        Ok(())
    }

    /// Writes into the audit log that a table was changed.
    async fn written(&mut self, name: &str) -> Result<()> {
        self.again(name, async |session| {
            let mut tx = begin(session).await?;
            record(&mut tx, name).await?;
            tx.commit().await
        })
        .await
    }
}

/// References that are to be proven: the table, their names, and the statement for it.
pub(super) async fn unproven(connection: &mut PgConnection) -> Result<Vec<(Oid, String, String)>> {
    let mut look = look(connection).await?;
    let found = sqlx::query_file!("sql/rls/online/unproven.sql").fetch_all(&mut *look).await?;
    look.rollback().await?;
    Ok(found.into_iter().map(|row| (row.relation, row.object, row.statement)).collect())
}

/// What a table or a view lacks of hardening. A fresh one is not under isolation yet, which will take from the control
/// plane's roles and PUBLIC what hardening would take.
pub(super) async fn missing(
    connection: &mut PgConnection,
    relation: Oid,
    name: &str,
    fresh: bool,
) -> Result<Vec<Step>> {
    sqlx::query_file_as!(Step, "sql/rls/online/hardening.sql", relation, fresh)
        .fetch_all(connection)
        .await
        .map_err(|error| explain(error, name))
}

/// An index that was built ahead.
pub(super) struct Spare {
    pub(super) relation: Oid,
    pub(super) name: String,
    pub(super) object: String,
    /// What drops it.
    pub(super) statement: String,
}

/// Those that have not become keys.
pub(super) async fn spares(connection: &mut PgConnection) -> Result<Vec<Spare>> {
    let mut look = look(connection).await?;
    let found = sqlx::query_file_as!(Spare, "sql/rls/online/spares.sql").fetch_all(&mut *look).await?;
    look.rollback().await?;
    Ok(found)
}

/// Whether a step of hardening is one that [`Replacement`] takes apart.
pub(super) fn is_key(step: &Step) -> bool {
    matches!(step.action.as_str(), "unique_key" | "key" | "foreign_key")
}
