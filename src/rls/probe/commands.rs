//! Commands beside the plain ones that might cross: each takes another path through PostgreSQL to the same policies, and
//! wakes other triggers.

use std::collections::BTreeSet;

use crate::db::quote::{ident, literal};
use crate::rls::probe::attack::{Attack, Command, Context, Meaning, Target, counts};
use crate::rls::probe::row::Values;
use crate::rls::probe::runner::{Item, Outcome};
use crate::rls::probe::schema::Constraint;

/// What such a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extra {
    /// Inserts a row whose key tenant B has, and updates on conflict.
    Conflict,
    /// Merges into tenant B's row.
    Merge,
    /// Adds a row of its own and has it returned, as the triggers made it.
    ReturnInsert,
    /// Changes rows and has them returned.
    ReturnChange,
    /// Locks rows.
    Lock,
    /// Empties the table, where that is granted.
    Truncate,
    /// Reads through a cursor.
    Cursor,
    /// Copies the table to the client.
    Copy,
    /// Adds a row of its own with values that tenant B has in a unique key: the constraint of that number.
    Take(usize),
    /// Adds a row of its own that refers to tenant B's by the foreign key of that number.
    Point(usize),
}

/// How long TRUNCATE waits for its lock: everybody else would have to wait behind it.
const TRUNCATE_WAITS: &str = "200ms";

/// How long a value is that hardly turns up by chance.
const TELLING: usize = 8;

impl Extra {
    /// Those that run among the others, in the tenant's own context.
    pub(crate) const IN_TENANT: [Command; 5] = [
        Command::Extra(Self::Conflict),
        Command::Extra(Self::Merge),
        Command::Extra(Self::ReturnInsert),
        Command::Extra(Self::ReturnChange),
        Command::Extra(Self::Truncate),
    ];

    /// The check that a leak belongs to, and what happened.
    pub(crate) fn check(self) -> (&'static str, &'static str) {
        match self {
            Self::Conflict => ("conflict-leak", "INSERT … ON CONFLICT changes another tenant's row"),
            Self::Merge => ("merge-leak", "MERGE changes another tenant's rows"),
            Self::ReturnInsert | Self::ReturnChange => {
                ("returning-leak", "RETURNING shows another tenant's rows")
            }
            Self::Lock => ("lock-leak", "SELECT … FOR UPDATE locks another tenant's rows"),
            Self::Truncate => ("grant-truncate", "TRUNCATE takes every tenant's rows"),
            Self::Cursor => ("probe-leak", "a cursor shows another tenant's rows that SELECT hides"),
            Self::Copy => ("copy-leak", "COPY … TO copies another tenant's rows"),
            Self::Take(_) => ("unique-crosses", "a value that another tenant has is refused"),
            Self::Point(_) => ("foreign-key-crosses", "another tenant's row can be referred to"),
        }
    }

    /// The command's name.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Conflict => "INSERT … ON CONFLICT",
            Self::Merge => "MERGE",
            Self::ReturnInsert => "INSERT … RETURNING",
            Self::ReturnChange => "RETURNING",
            Self::Lock => "SELECT … FOR UPDATE",
            Self::Truncate => "TRUNCATE",
            Self::Cursor => "a cursor",
            Self::Copy => "COPY … TO",
            Self::Take(_) => "INSERT of another tenant's value",
            Self::Point(_) => "INSERT of a reference to another tenant's row",
        }
    }
}

impl Target<'_> {
    /// Puts the statements of the command into the item; None where the role has no right to any.
    pub(crate) fn extra(&self, item: &mut Item, extra: Extra) -> Option<()> {
        match extra {
            Extra::Conflict => self.conflict(item),
            Extra::Merge => self.merge(item),
            Extra::ReturnInsert => self.return_insert(item),
            Extra::ReturnChange => self.return_change(item),
            Extra::Truncate => self.truncate(item),
            Extra::Take(at) => self.take(item, at),
            Extra::Point(at) => self.point(item, at),
            // They need the wire.
            Extra::Lock | Extra::Cursor | Extra::Copy => None,
        }
    }

    /// Unique keys that ON CONFLICT can name and that do not carry the tenant.
    fn global_keys(&self) -> impl Iterator<Item = &Constraint> {
        let tenant = self.node.tenant;
        self.node
            .constraints
            .iter()
            .filter(move |key| key.is_arbiter() && !key.columns.iter().any(|at| Some(*at) == tenant))
    }

    fn may_read(&self, key: &Constraint) -> bool {
        key.columns.iter().all(|column| self.privileges.selects.contains(column))
    }

    fn conflict(&self, item: &mut Item) -> Option<()> {
        let node = self.node;
        let (name, value) = self.change()?;
        // A row of its own that meets B's in a key of all tenants.
        let key = self.global_keys().find(|key| self.may_read(key))?;
        let mut row: Values = self.spares[0].as_ref().unwrap_or(&self.rows[0]).clone();
        for column in &key.columns {
            let at = node.position(*column)?;
            *row.get_mut(at)? = self.rows[1].get(at)?.clone();
        }
        let given = self.given(&row);
        // Without every column of the key there is no conflict.
        if !key.columns.iter().all(|column| self.privileges.inserts.contains(column)) {
            return None;
        }
        let columns: Vec<String> =
            key.columns.iter().filter_map(|column| Some(ident(&node.column(*column)?.name))).collect();
        let value = if value == name { format!("probe.{name}") } else { value };
        item.attempts.push(format!(
            "INSERT INTO {} AS probe {} ON CONFLICT ({}) DO UPDATE SET {name} = {value}",
            node.name,
            given?,
            columns.join(", ")
        ));
        Some(())
    }

    fn merge(&self, item: &mut Item) -> Option<()> {
        let (attnum, column) = self.tenant_column()?;
        if !self.privileges.selects.contains(&attnum) {
            return None;
        }
        let mut actions = Vec::new();
        if let Some((name, value)) = self.change() {
            let value = if value == name { format!("probe.{name}") } else { value };
            // What is set must be readable where it is read.
            actions.push(format!("WHEN MATCHED THEN UPDATE SET {name} = {value}"));
        } else if self.privileges.deletes {
            actions.push("WHEN MATCHED THEN DELETE".to_string());
        }
        if actions.is_empty() {
            return None;
        }
        let own = self.spares[0].as_ref().and_then(|row| self.given(row));
        actions.extend(own.map(|row| format!("WHEN NOT MATCHED THEN INSERT {row}")));
        item.attempts.push(format!(
            "MERGE INTO {} AS probe USING (SELECT 1) AS source ON probe.{column} = {} {}",
            self.node.name,
            literal(&self.tenants[1]),
            actions.join(" ")
        ));
        Some(())
    }

    /// The columns that the role may read, as one text, where B's row can be known by it.
    fn readable(&self) -> Option<String> {
        let readable: Vec<String> = self
            .node
            .columns
            .iter()
            .filter(|column| self.privileges.selects.contains(&column.attnum))
            .map(|column| format!("{}::text", ident(&column.name)))
            .collect();
        (!readable.is_empty() && !self.telling().is_empty())
            .then(|| format!("pg_catalog.concat_ws(' ', {})", readable.join(", ")))
    }

    fn return_insert(&self, item: &mut Item) -> Option<()> {
        let row = self.given(self.spares[0].as_ref()?)?;
        item.returns = true;
        item.oracle = None;
        item.attempts.push(format!("INSERT INTO {} {row} RETURNING {}", self.node.name, self.readable()?));
        Some(())
    }

    fn return_change(&self, item: &mut Item) -> Option<()> {
        let (attnum, column) = self.tenant_column()?;
        if !self.privileges.selects.contains(&attnum) {
            return None;
        }
        let name = &self.node.name;
        let change = match self.change() {
            Some((set, value)) => format!("UPDATE {name} SET {set} = {value}"),
            None if self.privileges.deletes => {
                item.prep = self.clear.to_vec();
                format!("DELETE FROM {name}")
            }
            None => return None,
        };
        item.returns = true;
        item.oracle = None;
        let [a, b] = [literal(&self.tenants[0]), literal(&self.tenants[1])];
        item.attempts.push(format!(
            "WITH changed AS ({change} WHERE {column} IN ({a}, {b}) RETURNING {} AS row) SELECT \
             pg_catalog.string_agg(row, ' ') FROM changed",
            self.readable()?
        ));
        Some(())
    }

    fn truncate(&self, item: &mut Item) -> Option<()> {
        self.privileges.truncates.then_some(())?;
        item.settings.insert("lock_timeout".into(), TRUNCATE_WAITS.into());
        item.always = true;
        item.attempts.push(format!("TRUNCATE {}", self.node.name));
        item.attempts.push(format!("TRUNCATE {} CASCADE", self.node.name));
        Some(())
    }

    /// Values of B's row by which it is known wherever it turns up.
    fn telling(&self) -> Vec<&String> {
        let own: BTreeSet<&String> =
            self.rows[0].iter().chain(self.spares[0].iter().flatten()).flatten().collect();
        let of_b = self.rows[1].iter().flatten();
        of_b.filter(|value| value.chars().count() >= TELLING && !own.contains(value)).collect()
    }

    /// What the outcome of such a command means, given what the oracle saw before.
    pub(crate) fn judge_extra(
        &self,
        extra: Extra,
        attack: &Attack,
        item: &Item,
        outcome: &Outcome,
        baseline: &str,
    ) -> Meaning {
        if let Some(error) = outcome.error() {
            return match error.code.as_str() {
                // The server's, a constraint's or a trigger's no: no row was reached.
                "42501" | "P0001" | "0A000" | "42704" | "44000" => Meaning::Denied,
                code if code.starts_with("22") || code.starts_with("23") => Meaning::Denied,
                code => Meaning::Unclear(format!("{} ({code})", error.message)),
            };
        }
        let told = |what: &str| Meaning::Leak(self.evidence(attack, item, outcome, what));
        match extra {
            Extra::Conflict | Extra::Merge | Extra::Truncate => {
                let before = outcome.before.as_deref().unwrap_or(baseline);
                match &outcome.seen {
                    Some(seen) if seen != before => told("tenant B's row is changed or gone"),
                    _ => Meaning::Denied,
                }
            }
            Extra::ReturnInsert | Extra::ReturnChange => {
                let answer = outcome.answer.as_deref().unwrap_or_default();
                if self.telling().iter().any(|value| answer.contains(value.as_str())) {
                    told("values of tenant B's row")
                } else {
                    Meaning::Denied
                }
            }
            // Judged key by key.
            Extra::Take(_) | Extra::Point(_) => Meaning::Denied,
            Extra::Lock | Extra::Cursor | Extra::Copy => {
                let [a, b] = counts(outcome);
                if b > 0 || (attack.context != Context::A && a > 0) {
                    told(&format!("rows of tenant {}", if b > 0 { "B" } else { "A" }))
                } else {
                    Meaning::Denied
                }
            }
        }
    }
}
