//! How a user becomes a member of a tenant: rows for the tables that policies ask who the user is.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::types::Oid;

use super::Draft;
use super::facts::{Column, Facts, Table};
use super::reading::Reading;
use super::tenants::Tenants;
use crate::db::quote::literal;

/// How many references away a row is made for a row.
const STEPS: usize = 4;

/// Words in the names of flags that a member in good standing does not carry.
const ENDED: [&str; 8] =
    ["deleted", "banned", "disabled", "revoked", "blocked", "archived", "suspended", "expired"];

/// A table that says which tenants a user belongs to.
struct Membership {
    key: String,
    tenant: String,
    /// What policies ask of a member.
    texts: BTreeMap<String, Vec<String>>,
}

struct Maker<'f> {
    facts: &'f Facts,
    tenants: &'f Tenants,
    memberships: BTreeMap<u32, Membership>,
    done: BTreeSet<u32>,
    statements: Vec<String>,
}

/// The statements of `context.prepare`.
pub(super) fn prepare(
    facts: &Facts,
    readings: &[(Oid, Reading)],
    tenants: &Tenants,
    draft: &mut Draft,
) -> Vec<String> {
    let mut memberships: BTreeMap<u32, Membership> = BTreeMap::new();
    for lookup in readings.iter().flat_map(|(_, reading)| &reading.lookups) {
        let Some(table) = facts.table(lookup.table) else { continue };
        if tenants.users || tenants.is(table.oid, &lookup.key) {
            continue;
        }
        let given =
            lookup.gives.iter().find(|column| **column != lookup.key && Some(column.as_str()) != Some("id"));
        let Some(tenant) = tenants.of.get(&table.oid.0).or(given) else { continue };
        let known = memberships.entry(table.oid.0).or_insert_with(|| Membership {
            key: lookup.key.clone(),
            tenant: tenant.clone(),
            texts: BTreeMap::new(),
        });
        for (column, texts) in &lookup.texts {
            known.texts.entry(column.clone()).or_default().extend(texts.iter().cloned());
        }
    }
    let tables: Vec<u32> = memberships.keys().copied().collect();
    let mut maker = Maker { facts, tenants, memberships, done: BTreeSet::new(), statements: Vec::new() };
    for oid in tables {
        let Some(table) = facts.table(Oid(oid)) else { continue };
        let Some(Membership { key, tenant, .. }) = maker.memberships.get(&oid) else { continue };
        let because = format!(
            "Policies look a user up in {} by {key} and take the tenant from {tenant}.",
            table.quoted
        );
        draft.because("context.prepare", because);
        let key = key.clone();
        if let Err(question) = maker.row(table, &key, "'{user}'", 0) {
            draft.ask("context.prepare", question);
        }
    }
    maker.statements
}

impl Maker<'_> {
    /// Makes a row whose key holds a value, and before it the rows that it references.
    fn row(&mut self, table: &Table, key: &str, value: &str, step: usize) -> Result<(), String> {
        if !self.done.insert(table.oid.0) {
            return Ok(());
        }
        let cannot = |column: &Column, why: &str| {
            format!("How does a user get a row in {}? Its column {} {why}.", table.quoted, column.quoted)
        };
        let mut columns = Vec::new();
        let mut values = Vec::new();
        let mut again = None;
        for column in &table.columns {
            let is_key = column.name == key;
            let member = self.memberships.get(&table.oid.0);
            let is_tenant = member.map_or_else(
                || self.tenants.is(table.oid, &column.name) && !is_key,
                |member| member.tenant == column.name,
            );
            let texts = member.and_then(|member| member.texts.get(&column.name));
            let value = if is_key {
                if !takes_uuid(column) {
                    return Err(cannot(
                        column,
                        &format!("is of type {}, and {{user}} is a UUID", column.type_name),
                    ));
                }
                again = column.made.then_some(column.quoted.as_str());
                value.to_owned()
            } else if is_tenant {
                "'{tenant}'".to_owned()
            } else if let Some(texts) = texts {
                literal(strongest(texts))
            } else if !column.required {
                continue;
            } else if column.target.is_some() {
                "'{user}'".to_owned()
            } else {
                made_up(column)
                    .ok_or_else(|| cannot(column, &format!("needs a value of type {}", column.type_name)))?
            };
            let references = column.target.filter(|target| *target != table.oid && value == "'{user}'");
            if let Some(target) = references.and_then(|target| self.facts.table(target)) {
                if step >= STEPS {
                    return Err(cannot(column, "references too long a way"));
                }
                self.row(target, column.target_column.as_deref().unwrap_or("id"), &value, step + 1)?;
            }
            columns.push(column.quoted.as_str());
            values.push(value);
        }
        let mut statement =
            format!("INSERT INTO {} ({}) VALUES ({})", table.quoted, columns.join(", "), values.join(", "));
        if let Some(key) = again {
            let others = columns.iter().filter(|column| **column != key);
            let sets: Vec<String> = others.map(|column| format!("{column} = excluded.{column}")).collect();
            statement.push_str(&match sets.as_slice() {
                [] => format!(" ON CONFLICT ({key}) DO NOTHING"),
                sets => format!(" ON CONFLICT ({key}) DO UPDATE SET {}", sets.join(", ")),
            });
        }
        self.statements.push(statement);
        Ok(())
    }
}

fn takes_uuid(column: &Column) -> bool {
    column.type_name == "uuid" || column.category == "S" && column.length.is_none_or(|length| length >= 36)
}

/// The text that opens most, of those that policies ask for.
fn strongest(texts: &[String]) -> &str {
    let known = ["owner", "admin"].iter().find_map(|name| texts.iter().find(|text| *text == name));
    known.or(texts.first()).map_or("", String::as_str)
}

/// A value for a column that needs one.
fn made_up(column: &Column) -> Option<String> {
    Some(match (column.category.as_str(), column.type_name.as_str()) {
        ("S", _) if takes_uuid(column) => "'{user}'".into(),
        ("S", _) => "'x'".into(),
        ("N", _) => "1".into(),
        ("B", _) => (!ENDED.iter().any(|word| column.name.to_lowercase().contains(word))).to_string(),
        ("D", _) => "now()".into(),
        ("E", _) => literal(column.label.as_deref()?),
        (_, "uuid") => "'{user}'".into(),
        (_, "json" | "jsonb") | ("A", _) => "'{}'".into(),
        _ => return None,
    })
}
