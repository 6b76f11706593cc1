//! One plain SQL script for each leak, which shows it in psql: the rows, the role, the context, the statement.

use std::collections::{BTreeMap, BTreeSet};

use crate::db::quote::{ident, literal};
use crate::rls::probe::Leak;
use crate::rls::probe::attack::{Attack, Command, Context, Meaning, Target};
use crate::rls::probe::batch::Batch;
use crate::rls::probe::judge::Tried;
use crate::rls::probe::runner::{Item, Outcome};
use crate::rls::probe::seed::Seeder;

/// Scripts by check and object.
pub(crate) type Scripts = BTreeMap<(String, String), String>;

/// What a script shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// Statements that clear the way.
    prep: Vec<String>,
    /// Who attacks.
    role: String,
    /// In which settings.
    settings: BTreeMap<String, String>,
    statement: String,
    /// A query for what other tenants have, before and after a statement that changes it.
    rows: Option<String>,
    /// The tables whose rows it takes; none for all that are under attack together.
    tables: Vec<u32>,
}

impl Shown {
    /// An item as it was tried.
    pub(super) fn of(item: &Item, statement: String, rows: Option<String>) -> Self {
        Self {
            prep: item.prep.clone(),
            role: item.role.clone().unwrap_or_default(),
            settings: item.settings.clone(),
            statement,
            rows,
            tables: Vec::new(),
        }
    }

    /// The same with the rows of these tables only.
    pub(super) fn with_rows_of(self, tables: Vec<u32>) -> Self {
        Self { tables, ..self }
    }
}

impl Batch<'_> {
    /// Adds a script for each of the leaks, from the attack that its evidence tells of.
    pub(super) fn write_down(
        &self,
        target: &Target<'_>,
        seeder: &Seeder<'_>,
        tried: &[Tried],
        baseline: &str,
        leaks: &[Leak],
        scripts: &mut Scripts,
    ) {
        for leak in leaks {
            let shows = |(attack, item, outcome): &&Tried| match target.judge(attack, item, outcome, baseline)
            {
                Meaning::Leak(evidence) | Meaning::Stopped(evidence) => evidence == leak.evidence,
                Meaning::Denied | Meaning::Unclear(_) => false,
            };
            let tells = |(attack, item, outcome): &&Tried| {
                target.told(attack, item, outcome).is_some_and(|told| told.evidence == leak.evidence)
            };
            if let Some((attack, item, outcome)) = tried.iter().find(|tried| shows(tried) || tells(tried)) {
                let script = self.script(target, seeder, leak, (attack, item, outcome));
                scripts.entry((leak.check.into(), leak.object.clone())).or_insert(script);
            }
        }
    }

    fn script(
        &self,
        target: &Target<'_>,
        seeder: &Seeder<'_>,
        leak: &Leak,
        (attack, item, outcome): (&Attack, &Item, &Outcome),
    ) -> String {
        let at = outcome.attempt.unwrap_or(outcome.refused.len().saturating_sub(1));
        let sent = item.attempts.get(at).cloned().unwrap_or_default();
        let shown = if attack.command == Command::Read {
            Shown::of(item, reading(target, attack).unwrap_or(sent), None)
        } else {
            let rows = rows_of(target, attack, "tableoid::pg_catalog.regclass, ctid, *");
            Shown::of(item, sent, Some(rows))
        };
        self.put(&[target.node.oid.0], seeder, leak, &Shown { role: target.role.to_owned(), ..shown })
    }

    /// A script for a leak through a door.
    pub(super) fn script_of_door(&self, seeder: &Seeder<'_>, leak: &Leak, shown: &Shown) -> String {
        let oids = if shown.tables.is_empty() { &self.targets } else { &shown.tables };
        self.put(oids, seeder, leak, shown)
    }

    fn put(&self, oids: &[u32], seeder: &Seeder<'_>, leak: &Leak, shown: &Shown) -> String {
        let mut lines = Vec::new();
        let mut remark = |text: &str| {
            for line in text.lines() {
                lines.push(format!("-- {}", line.replace(char::is_control, " ")));
            }
        };
        remark(&format!("{} on {} {}: {}", leak.check, leak.object_kind, leak.object, leak.message));
        remark(&leak.evidence);
        remark(if leak.check == "unique-crosses" {
            "For psql, as a superuser. It is rolled back at its end; without an error on the way it is mended."
        } else {
            "For psql, as a superuser. It is rolled back at its end; an error on the way says that it is mended."
        });
        let mut say = |statement: &str| lines.push(format!("{statement};"));
        say("BEGIN");
        for statement in self.rows(oids, seeder) {
            say(&statement);
        }
        for statement in &shown.prep {
            say(statement);
        }
        if let Some(rows) = &shown.rows {
            lines.push("-- What other tenants have before".into());
            lines.push(format!("{rows};"));
        }
        lines.push("-- The attack".into());
        let mut say = |statement: &str| lines.push(format!("{statement};"));
        let acting = seeder.acting;
        let mut context = vec![format!("SET LOCAL ROLE {}", ident(&shown.role))];
        for (name, value) in &shown.settings {
            let value = acting.expression(value);
            context.push(format!("SELECT pg_catalog.set_config({}, {value}, true)", literal(name)));
        }
        if acting.is_sealed() {
            // The role may not sign.
            context.rotate_left(1);
        }
        context.iter().for_each(|statement| say(statement));
        say(&shown.statement);
        if let Some(rows) = &shown.rows {
            say("RESET ROLE");
            lines.push("-- and after".into());
            lines.push(format!("{rows};"));
        }
        lines.push("ROLLBACK;\n".into());
        lines.join("\n")
    }

    /// Statements that make the rows which the probes made, in the tables and in those that they need.
    pub(super) fn rows(&self, oids: &[u32], seeder: &Seeder<'_>) -> Vec<String> {
        let mut needed = BTreeSet::new();
        let mut work: Vec<u32> =
            self.shared.prepared.iter().flatten().copied().chain(oids.iter().copied()).collect();
        while let Some(oid) = work.pop() {
            if needed.insert(oid) {
                let parents = self.nodes.get(&oid).into_iter().flat_map(|node| node.references());
                work.extend(parents.map(|key| key.referenced.0));
            }
        }
        let mut statements = Vec::new();
        for oid in seeder.canaries.order.iter().filter(|oid| needed.contains(oid)) {
            let Some(node) = self.nodes.get(oid) else { continue };
            for row in seeder.canaries.made(*oid) {
                let (columns, values): (Vec<_>, Vec<_>) = node
                    .columns
                    .iter()
                    .zip(row)
                    .filter(|(column, _)| !column.is_generated)
                    .map(|(column, value)| {
                        (ident(&column.name), value.as_deref().map_or("NULL".into(), literal))
                    })
                    .unzip();
                // A row that tenants share may have been there before.
                statements.push(format!(
                    "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT DO NOTHING",
                    node.name,
                    columns.join(", "),
                    values.join(", ")
                ));
            }
        }
        for [a, b] in self.keys(seeder) {
            for (which, key) in [(0, &a), (1, &b)] {
                statements.extend(seeder.acting.prepare(key, which));
            }
        }
        statements
    }
}

/// A query for what the attack must not reach.
pub(super) fn rows_of(target: &Target<'_>, attack: &Attack, columns: &str) -> String {
    let tenant = target.node.tenant.and_then(|attnum| target.node.column(attnum));
    let stranger = attack.context != Context::A;
    let keys: Vec<String> =
        target.tenants[usize::from(!stranger)..2].iter().map(|key| literal(key)).collect();
    let condition =
        tenant.map_or("false".into(), |column| format!("{} IN ({})", ident(&column.name), keys.join(", ")));
    format!("SELECT {columns} FROM {} WHERE {condition}", target.node.name)
}

/// The rows themselves in place of their number, as far as the role may see them.
fn reading(target: &Target<'_>, attack: &Attack) -> Option<String> {
    let readable = &target.privileges.selects;
    // Whose a row is cannot be told without the tenant column: then it stays with the number.
    if !readable.contains(&target.node.tenant?) {
        return None;
    }
    let columns = target.node.columns.iter().filter(|column| readable.contains(&column.attnum));
    let columns: Vec<String> = columns.map(|column| ident(&column.name)).collect();
    Some(rows_of(target, attack, &columns.join(", ")))
}
