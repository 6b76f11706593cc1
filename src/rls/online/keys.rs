//! Index, reference and NOT NULL of one table in steps that lock it for moments only.
//!
//! What is missing is what `tenancy.protection` says; here each of its statements becomes several, by what stands of
//! them already. So a run that was ended anywhere goes on from there.

use std::collections::HashSet;

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;
use crate::db::quote::ident;
use crate::rls::protection::Step as Planned;
use crate::rls::unfinished::PROOF;

/// Longest name that PostgreSQL keeps, in bytes.
const NAME_LENGTH: usize = 63;

/// A step that is committed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What it changes: the table, or one of its partitions.
    pub(super) relation: Oid,
    /// The word that the offline setup has for it.
    pub(super) action: &'static str,
    pub(super) how: How,
}

/// How a step is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// In a transaction, with locks that others queue behind, for a moment.
    Brief(Vec<String>),
    /// In a transaction, reading every row, with a lock that only other changes of the table wait for. Where rows stand in
    /// the way the second statement takes back what was begun.
    Scan(String, String),
    /// Outside a transaction.
    Concurrent(String),
    /// Outside a transaction: an index of this name.
    Index { name: String, statement: String },
    /// As brief, with locks on several tables, in whose place something else comes that a note tells of.
    Swap { statements: Vec<String>, touched: Vec<Oid>, note: Option<String> },
    /// In a transaction, proving a reference of these tables, with a lock that only other changes of them wait for. Where
    /// rows stand in the way it stays unproven.
    Proof(String, Vec<Oid>),
}

impl How {
    pub(super) fn statements(&self) -> &[String] {
        match self {
            Self::Brief(statements) | Self::Swap { statements, .. } => statements,
            Self::Scan(statement, _)
            | Self::Concurrent(statement)
            | Self::Index { statement, .. }
            | Self::Proof(statement, _) => std::slice::from_ref(statement),
        }
    }
}

/// What stands of a table's keys.
pub(super) struct Standing {
    table: Table,
    parts: Vec<Part>,
    /// Name of the reference to come.
    reference: String,
    /// Names of the indexes to come, for each part.
    indexes: Vec<String>,
}

struct Table {
    relation: Oid,
    schema: Oid,
    table: String,
    name: String,
    partitioned: bool,
    column: String,
    not_null: bool,
    proven: Option<bool>,
}

/// What holds rows: the table itself, or one of its partitions.
struct Part {
    relation: Oid,
    schema: Oid,
    schema_name: String,
    table: String,
    name: String,
    indexed: bool,
    /// Indexes that are not valid and otherwise what is wanted; those that were written down as ours come first.
    leftovers: Vec<String>,
    ours: i64,
    builder: Option<i32>,
    reference: Option<String>,
    reference_valid: Option<bool>,
    reference_ours: Option<bool>,
}

impl Standing {
    pub(super) async fn load(connection: &mut PgConnection, relation: Oid, column: &str) -> Result<Self> {
        let table = sqlx::query_file_as!(Table, "sql/rls/online/table.sql", relation, column, PROOF)
            .fetch_one(&mut *connection)
            .await?;
        let parts = sqlx::query_file_as!(Part, "sql/rls/online/parts.sql", relation, column)
            .fetch_all(&mut *connection)
            .await?;
        let mut chosen = HashSet::new();
        let reference =
            free_name(connection, &mut chosen, table.schema, (&table.table, column, "fkey"), false).await?;
        chosen.clear();
        let mut indexes = Vec::with_capacity(parts.len());
        for part in &parts {
            indexes.push(match part.leftover(column) {
                Some(name) => name.to_owned(),
                None => {
                    free_name(connection, &mut chosen, part.schema, (&part.table, column, "idx"), true)
                        .await?
                }
            });
        }
        Ok(Self { table, parts, reference, indexes })
    }

    /// Whoever builds what looks like a leftover.
    pub(super) fn builder(&self) -> Option<i32> {
        self.parts.iter().find_map(|part| part.builder)
    }

    /// What is left to do: for what the plan says is missing, and for what was begun.
    pub(super) fn steps(&self, planned: &[Planned]) -> Vec<Step> {
        let missing =
            |action: &str| planned.iter().any(|step| step.action == action && step.statement.is_some());
        let mut steps = Vec::new();
        if missing("index") {
            self.index(&mut steps);
        }
        self.reference(missing("foreign_key"), &mut steps);
        if missing("not_null") || self.table.proven.is_some() {
            self.not_null(&mut steps);
        }
        steps
    }

    /// One index at a time; PostgreSQL takes those of the partitions over into the index of the whole, which then reads
    /// no row.
    fn index(&self, steps: &mut Vec<Step>) {
        let whole = self.table.relation;
        let column = ident(&self.table.column);
        let mut push = |relation, how| steps.push(Step { relation, action: "index", how });
        for (part, name) in self.parts.iter().zip(&self.indexes).filter(|(part, _)| !part.indexed) {
            if let Some(leftover) = part.leftover(&self.table.column) {
                let index = format!("{}.{}", ident(&part.schema_name), ident(leftover));
                push(part.relation, How::Concurrent(format!("DROP INDEX CONCURRENTLY {index}")));
            }
            push(
                part.relation,
                How::Index {
                    name: name.clone(),
                    statement: format!(
                        "CREATE INDEX CONCURRENTLY {} ON {} ({column})",
                        ident(name),
                        part.name
                    ),
                },
            );
        }
        if self.table.partitioned {
            push(whole, How::Brief(vec![format!("CREATE INDEX ON {} ({column})", self.table.name)]));
        }
    }

    /// Before PostgreSQL 18 a partitioned table takes no reference that is NOT VALID; it takes over, without reading a row,
    /// what each partition has been proven to keep.
    fn reference(&self, missing: bool, steps: &mut Vec<Step>) {
        let whole = self.table.relation;
        let column = ident(&self.table.column);
        let mut push = |relation, how| steps.push(Step { relation, action: "foreign_key", how });
        let add = |table: &str, suffix: &str| {
            format!(
                "ALTER TABLE {table} ADD CONSTRAINT {} FOREIGN KEY ({column}) REFERENCES tenancy.tenants (id){suffix}",
                ident(&self.reference)
            )
        };
        for part in &self.parts {
            let drop = |name: &str| format!("ALTER TABLE {} DROP CONSTRAINT {}", part.name, ident(name));
            let validate = |name: &str| {
                How::Scan(
                    format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", part.name, ident(name)),
                    drop(name),
                )
            };
            match (&part.reference, part.reference_valid) {
                // Rows came to stand in the way of the whole.
                (Some(name), _)
                    if self.table.partitioned && !missing && part.reference_ours == Some(true) =>
                {
                    push(part.relation, How::Brief(vec![drop(name)]));
                }
                (Some(name), Some(false)) => push(part.relation, validate(name)),
                (None, _) if missing => {
                    push(part.relation, How::Brief(vec![add(&part.name, " NOT VALID")]));
                    push(part.relation, validate(&self.reference));
                }
                _ => {}
            }
        }
        if self.table.partitioned && missing {
            push(whole, How::Brief(vec![add(&self.table.name, "")]));
        }
    }

    fn not_null(&self, steps: &mut Vec<Step>) {
        let whole = self.table.relation;
        let Table { name, column, not_null, proven, .. } = &self.table;
        let column = ident(column);
        let mut push = |relation, how| steps.push(Step { relation, action: "not_null", how });
        let drop = format!("ALTER TABLE {name} DROP CONSTRAINT {PROOF}");
        if *not_null {
            return push(whole, How::Brief(vec![drop]));
        }
        if proven.is_none() {
            push(
                whole,
                How::Brief(vec![format!(
                    "ALTER TABLE {name} ADD CONSTRAINT {PROOF} CHECK ({column} IS NOT NULL) NOT VALID"
                )]),
            );
        }
        if *proven != Some(true) {
            push(whole, How::Scan(format!("ALTER TABLE {name} VALIDATE CONSTRAINT {PROOF}"), drop.clone()));
        }
        push(whole, How::Brief(vec![format!("ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL"), drop]));
    }
}

impl Part {
    /// An index that is not valid: written down as ours, or with the very name that ours would have.
    fn leftover(&self, column: &str) -> Option<&str> {
        let name = match self.ours {
            0 => {
                let name = object_name(&self.table, column, "idx");
                self.leftovers.iter().find(|leftover| **leftover == name)
            }
            _ => self.leftovers.first(),
        };
        name.map(String::as_str)
    }
}

/// The name that PostgreSQL would choose for an index or a constraint, unless it is taken.
async fn free_name(
    connection: &mut PgConnection,
    chosen: &mut HashSet<(u32, String)>,
    schema: Oid,
    (table, column, label): (&str, &str, &str),
    relation: bool,
) -> Result<String> {
    let mut number = 0_u32;
    loop {
        let suffix = if number == 0 { label.to_owned() } else { format!("{label}{number}") };
        let name = object_name(table, column, &suffix);
        let taken = sqlx::query_file_scalar!("sql/rls/online/taken.sql", schema, name, relation)
            .fetch_one(&mut *connection)
            .await?;
        if !taken && chosen.insert((schema.0, name.clone())) {
            return Ok(name);
        }
        number += 1;
    }
}

/// The parts of a name put together as PostgreSQL does it: the longer of the two is cut until all fits.
pub(super) fn object_name(table: &str, column: &str, label: &str) -> String {
    let room = NAME_LENGTH.saturating_sub(label.len() + 2);
    let (mut first, mut second) = (table.len(), column.len());
    while first + second > room {
        if first > second {
            first -= 1;
        } else {
            second -= 1;
        }
    }
    let cut = |text: &str, length: usize| text[..text.floor_char_boundary(length)].to_owned();
    format!("{}_{}_{label}", cut(table, first), cut(column, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_postgresql_chooses() {
        assert_eq!(object_name("events", "tenant_id", "idx"), "events_tenant_id_idx");
        let long = "x".repeat(63);
        assert_eq!(object_name(&long, "tenant_id", "idx"), format!("{}_tenant_id_idx", "x".repeat(49)));
        assert_eq!(object_name(&long, &long, "fkey").len(), 63);
        let wide = "é".repeat(31);
        assert_eq!(object_name(&wide, "tenant_id", "idx1"), format!("{}_tenant_id_idx1", "é".repeat(24)));
    }
}
