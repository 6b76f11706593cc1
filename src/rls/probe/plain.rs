//! The plain statements: SELECT, INSERT, UPDATE and DELETE, as the role's rights allow them.

use std::collections::BTreeSet;

use crate::db::quote::{ident, literal};
use crate::rls::probe::attack::Target;
use crate::rls::probe::row::Values;
use crate::rls::probe::runner::Item;

impl Target<'_> {
    /// Counts the rows of both, or rows at all.
    pub(crate) fn read(&self, item: &mut Item, counts: &mut bool) -> Option<()> {
        let (attnum, column) = self.tenant_column()?;
        let name = &self.node.name;
        item.returns = true;
        item.oracle = None;
        let [a, b] = [literal(&self.tenants[0]), literal(&self.tenants[1])];
        if self.privileges.selects.contains(&attnum) {
            item.attempts.push(format!(
                "SELECT pg_catalog.json_build_array(count(*) FILTER (WHERE {column} = {a}), count(*) FILTER (WHERE \
                 {column} = {b})) FROM {name} WHERE {column} IN ({a}, {b})"
            ));
        } else if !self.privileges.selects.is_empty() {
            *counts = true;
            item.attempts.push(format!(
                "SELECT pg_catalog.json_build_array(count(*), 0) FROM (SELECT FROM {name} LIMIT 100) AS s"
            ));
        } else {
            return None;
        }
        Some(())
    }

    /// Adds a row of A (0) or B (1).
    pub(crate) fn insert(&self, item: &mut Item, tenant: usize) -> Option<()> {
        let (attnum, column) = self.tenant_column()?;
        let node = self.node;
        let row = match &self.spares[tenant] {
            Some(row) => row,
            None => {
                // There is room for one row only: make it.
                item.prep = self.clear.to_vec();
                item.prep.push(format!(
                    "DELETE FROM {} WHERE {column} = {}",
                    node.name,
                    literal(&self.tenants[tenant])
                ));
                &self.rows[tenant]
            }
        };
        if tenant == 1 && !self.privileges.inserts.contains(&attnum) {
            return None;
        }
        item.attempts.push(format!("INSERT INTO {} {}", node.name, self.given(row)?));
        Some(())
    }

    /// The columns of the row that the role may give, and their values.
    pub(crate) fn given(&self, row: &Values) -> Option<String> {
        let mut columns = Vec::new();
        let mut values = Vec::new();
        for (column, value) in self.node.columns.iter().zip(row) {
            if !column.is_generated && self.privileges.inserts.contains(&column.attnum) {
                columns.push(ident(&column.name));
                values.push(value.as_deref().map_or("NULL".into(), literal));
            }
        }
        (!columns.is_empty()).then(|| {
            format!("({}) OVERRIDING SYSTEM VALUE VALUES ({})", columns.join(", "), values.join(", "))
        })
    }

    /// Changes rows where they are.
    pub(crate) fn update(&self, item: &mut Item) -> Option<()> {
        let (_, tenant_column) = self.tenant_column()?;
        let node = self.node;
        let (name, value) = self.change()?;
        let b = literal(&self.tenants[1]);
        item.attempts.push(format!("UPDATE {} SET {name} = {value}", node.name));
        item.attempts.push(format!("UPDATE {} SET {name} = {name} WHERE {tenant_column} = {b}", node.name));
        Some(())
    }

    /// A column that the role may change and the value to set, which is the column itself where it must be unique.
    pub(crate) fn change(&self) -> Option<(String, String)> {
        let tenant = self.node.tenant?;
        let node = self.node;
        let (unique, references) = (node.unique_columns(), node.reference_columns());
        let open = node.columns.iter().filter(|column| {
            self.privileges.updates.contains(&column.attnum)
                && column.attnum != tenant
                && !column.is_generated
                && !column.is_identity
        });
        let column = open.min_by_key(|column| {
            (unique.contains(&column.attnum), references.contains(&column.attnum), column.kind != "b")
        })?;
        let name = ident(&column.name);
        let value = if unique.contains(&column.attnum) {
            name.clone()
        } else {
            self.rows[0].get(node.position(column.attnum)?)?.as_deref().map_or("NULL".into(), literal)
        };
        Some((name, value))
    }

    /// Gives the row of one tenant to the other.
    pub(crate) fn relocate(&self, item: &mut Item, from: usize, to: usize) -> Option<()> {
        let (tenant, column) = self.tenant_column()?;
        let node = self.node;
        if !self.privileges.updates.contains(&tenant) {
            return None;
        }
        let key = literal(&self.tenants[to]);
        let plain = format!("{column} = {key}");
        // Along with the references that carry the tenant, so that they do not stand in the way.
        let mut whole = vec![plain.clone()];
        let carried: BTreeSet<i16> = node
            .references()
            .filter(|reference| reference.columns.contains(&tenant))
            .flat_map(|reference| reference.columns.iter().copied())
            .filter(|attnum| *attnum != tenant && self.privileges.updates.contains(attnum))
            .collect();
        for attnum in carried {
            let value = self.rows[to].get(node.position(attnum)?)?;
            let name = ident(&node.column(attnum)?.name);
            whole.push(format!("{name} = {}", value.as_deref().map_or("NULL".into(), literal)));
        }
        item.prep = self.clear.to_vec();
        item.prep.push(format!("DELETE FROM {} WHERE {column} = {key}", node.name));
        let whole = whole.join(", ");
        let source = literal(&self.tenants[from]);
        item.attempts.push(format!("UPDATE {} SET {whole}", node.name));
        item.attempts.push(format!("UPDATE {} SET {whole} WHERE {column} = {source}", node.name));
        item.attempts.push(format!("UPDATE {} SET {plain} WHERE {column} = {source}", node.name));
        Some(())
    }

    /// Deletes rows.
    pub(crate) fn delete(&self, item: &mut Item) -> Option<()> {
        let (_, column) = self.tenant_column()?;
        self.privileges.deletes.then_some(())?;
        item.prep = self.clear.to_vec();
        item.attempts.push(format!("DELETE FROM {}", self.node.name));
        item.attempts.push(format!(
            "DELETE FROM {} WHERE {column} = {}",
            self.node.name,
            literal(&self.tenants[1])
        ));
        Some(())
    }
}
