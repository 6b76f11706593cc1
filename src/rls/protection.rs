//! What setup did to each table, and the script that would do it.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde::Serialize;

use crate::Outcome;

/// What a setup did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// Each table that was looked at, parents before their partitions.
    pub tables: Vec<TableProtection>,
    /// What concerns no single table of these, such as tables that are neither a tenant's nor declared as shared.
    pub notes: Vec<String>,
}

/// What was done to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableProtection {
    /// Its name, with the schema, quoted as SQL.
    pub table: String,
    /// What it is.
    pub kind: TableKind,
    /// Whether it is new to isolation.
    pub outcome: Outcome,
    /// What was done, a word for each sort of statement: `owner`, `policy`, `grant`, `index`, …
    pub actions: Vec<String>,
    /// The statements that were carried out, in order.
    pub statements: Vec<String>,
    /// What stood in the way of more.
    pub notes: Vec<String>,
}

/// What a table is to isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// It has a tenant column.
    Tenant,
    /// A partition of such a table.
    Partition,
    /// An inheritance child of such a table.
    Child,
    /// Reference data that every tenant reads.
    Shared,
    /// A view over tenants' tables.
    View,
    /// No table: what concerns the database as a whole.
    Database,
}

impl TableKind {
    /// The name of the kind, as programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Partition => "partition",
            Self::Child => "child",
            Self::Shared => "shared",
            Self::View => "view",
            Self::Database => "database",
        }
    }
}

impl Protection {
    /// Whether anything was missing.
    pub fn changed(&self) -> bool {
        self.tables.iter().any(|table| !table.statements.is_empty())
    }

    /// The statements as one script for psql. What several tables need, such as a right on their schema, comes once.
    pub fn script(&self) -> String {
        let mut script = String::from("BEGIN;\nSET LOCAL search_path = pg_catalog, pg_temp;\n");
        let mut written = HashSet::new();
        for note in &self.notes {
            comment(&mut script, &format!("note: {note}"));
        }
        for table in
            self.tables.iter().filter(|table| !table.statements.is_empty() || !table.notes.is_empty())
        {
            script.push('\n');
            comment(&mut script, &table.table);
            for note in &table.notes {
                comment(&mut script, &format!("note: {note}"));
            }
            for statement in table.statements.iter().filter(|statement| written.insert(statement.as_str())) {
                // Writing to a String cannot fail.
                let _ = writeln!(script, "{statement};");
            }
        }
        script.push_str("\nCOMMIT;\n");
        script
    }
}

/// A table's name may hold a line break, which would end the comment and begin a statement.
pub(super) fn comment(script: &mut String, text: &str) {
    let line = text.replace(|c: char| c.is_control(), " ");
    let _ = writeln!(script, "-- {line}");
}

/// A statement or a note of the database.
pub(super) struct Step {
    pub(super) action: String,
    pub(super) statement: Option<String>,
    pub(super) note: Option<String>,
}

impl TableProtection {
    pub(super) fn new(table: String, kind: TableKind) -> Self {
        Self {
            table,
            kind,
            outcome: Outcome::Unchanged,
            actions: Vec::new(),
            statements: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// `None` where there is nothing to tell.
    pub(super) fn told(self) -> Option<Self> {
        (!self.statements.is_empty() || !self.notes.is_empty()).then_some(self)
    }

    /// Takes in what the database carried out, in addition to what it did before.
    pub(super) fn extend(&mut self, steps: Vec<Step>) {
        for step in steps {
            if step.action != "note" && !self.actions.contains(&step.action) {
                self.actions.push(step.action);
            }
            self.statements.extend(step.statement);
            self.notes.extend(step.note);
        }
        if self.outcome == Outcome::Unchanged && !self.statements.is_empty() {
            self.outcome = Outcome::Updated;
        }
    }
}
