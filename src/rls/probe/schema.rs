//! What the probes must know of a table to make a row of it: columns, constraints, references, privileges, policies.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;

/// A column, with what a value must look like to fit.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Column {
    relation: Oid,
    pub(crate) attnum: i16,
    pub(crate) name: String,
    /// The type as SQL names it, for casts.
    pub(crate) type_name: String,
    /// The type below domains.
    pub(crate) base: String,
    pub(crate) kind: String,
    pub(crate) category: String,
    /// Element type of an array, subtype of a range.
    pub(crate) element: String,
    pub(crate) typmod: i32,
    pub(crate) not_null: bool,
    pub(crate) has_default: bool,
    pub(crate) is_identity: bool,
    pub(crate) is_generated: bool,
    pub(crate) is_serial: bool,
    pub(crate) labels: Vec<String>,
    pub(crate) domain_checks: String,
}

/// A check, a foreign key, a unique key or index, or an exclusion constraint.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Constraint {
    relation: Oid,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) columns: Vec<i16>,
    pub(crate) referenced: Oid,
    pub(crate) referenced_columns: Vec<i16>,
    pub(crate) is_deferrable: bool,
    /// Of a check, and of an index that is over expressions or not over all rows.
    pub(crate) definition: String,
}

impl Constraint {
    /// Whether ON CONFLICT can name it by its columns.
    pub(crate) fn is_arbiter(&self) -> bool {
        self.kind == "u" && !self.is_deferrable && self.definition.is_empty()
    }
}

#[derive(sqlx::FromRow)]
struct TableRow {
    oid: Oid,
    name: String,
    owner: String,
    is_foreign: bool,
    partition_keys: Vec<i16>,
    bounds: String,
}

/// A table that the probes fill: a tenant table, or one that a tenant table references.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) oid: Oid,
    /// Quoted, with its schema.
    pub(crate) name: String,
    /// Quoted.
    pub(crate) owner: String,
    pub(crate) is_foreign: bool,
    pub(crate) partition_keys: Vec<i16>,
    pub(crate) bounds: String,
    /// The column that holds the tenant; none for tables that tenants share.
    pub(crate) tenant: Option<i16>,
    pub(crate) columns: Vec<Column>,
    pub(crate) constraints: Vec<Constraint>,
}

impl Node {
    /// The column of that number.
    pub(crate) fn column(&self, attnum: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.attnum == attnum)
    }

    /// Position of a column among the columns, which is its position in a row's values.
    pub(crate) fn position(&self, attnum: i16) -> Option<usize> {
        self.columns.iter().position(|column| column.attnum == attnum)
    }

    /// The foreign keys.
    pub(crate) fn references(&self) -> impl Iterator<Item = &Constraint> {
        self.constraints.iter().filter(|constraint| constraint.kind == "f")
    }

    /// Columns that a unique key or an exclusion constraint looks at.
    pub(crate) fn unique_columns(&self) -> BTreeSet<i16> {
        let unique =
            self.constraints.iter().filter(|constraint| matches!(constraint.kind.as_str(), "u" | "x"));
        unique.flat_map(|constraint| constraint.columns.iter().copied()).collect()
    }

    /// Columns of foreign keys.
    pub(crate) fn reference_columns(&self) -> BTreeSet<i16> {
        self.references().flat_map(|constraint| constraint.columns.iter().copied()).collect()
    }
}

/// What a role may do to a table, by column where PostgreSQL tells columns apart.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Privileges {
    pub(crate) relation: Oid,
    pub(crate) role: Oid,
    pub(crate) selects: Vec<i16>,
    pub(crate) inserts: Vec<i16>,
    pub(crate) updates: Vec<i16>,
    pub(crate) deletes: bool,
    /// Whether TRUNCATE was granted, which the owner need not be.
    pub(crate) truncates: bool,
}

/// What the policies of a table say.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
pub(crate) struct Policies {
    pub(crate) relation: Oid,
    pub(crate) expressions: String,
    pub(crate) functions: String,
}

/// The tables, with every table that they reference, by oid.
pub(crate) async fn nodes(
    connection: &mut PgConnection,
    tables: &[(Oid, Option<String>)],
) -> Result<BTreeMap<u32, Node>> {
    let wanted: Vec<Oid> = tables.iter().map(|(oid, _)| *oid).collect();
    let rows: Vec<TableRow> = sqlx::query_as(include_str!("../../../sql/rls/probe/tables.sql"))
        .bind(&wanted)
        .fetch_all(&mut *connection)
        .await?;
    let all: Vec<Oid> = rows.iter().map(|row| row.oid).collect();
    let columns: Vec<Column> = sqlx::query_as(include_str!("../../../sql/rls/probe/columns.sql"))
        .bind(&all)
        .fetch_all(&mut *connection)
        .await?;
    let constraints: Vec<Constraint> = sqlx::query_as(include_str!("../../../sql/rls/probe/constraints.sql"))
        .bind(&all)
        .fetch_all(&mut *connection)
        .await?;
    let mut nodes: BTreeMap<u32, Node> = rows
        .into_iter()
        .map(|row| {
            let node = Node {
                oid: row.oid,
                name: row.name,
                owner: row.owner,
                is_foreign: row.is_foreign,
                partition_keys: row.partition_keys,
                bounds: row.bounds,
                tenant: None,
                columns: Vec::new(),
                constraints: Vec::new(),
            };
            (row.oid.0, node)
        })
        .collect();
    for column in columns {
        if let Some(node) = nodes.get_mut(&column.relation.0) {
            node.columns.push(column);
        }
    }
    for constraint in constraints {
        if let Some(node) = nodes.get_mut(&constraint.relation.0) {
            node.constraints.push(constraint);
        }
    }
    for (oid, tenant_column) in tables {
        if let (Some(node), Some(name)) = (nodes.get_mut(&oid.0), tenant_column) {
            node.tenant = node.columns.iter().find(|column| &column.name == name).map(|column| column.attnum);
        }
    }
    spread_tenant_columns(&mut nodes);
    Ok(nodes)
}

/// A table that the tenant column of another references holds the tenant in the column that it points at: the table of
/// tenants itself, or a parent whose key carries the tenant.
fn spread_tenant_columns(nodes: &mut BTreeMap<u32, Node>) {
    let mut work: Vec<u32> =
        nodes.iter().filter(|(_, node)| node.tenant.is_some()).map(|(oid, _)| *oid).collect();
    while let Some(oid) = work.pop() {
        let Some(node) = nodes.get(&oid) else { continue };
        let targets: Vec<(u32, i16)> = node
            .references()
            .filter_map(|key| {
                let at = key.columns.iter().position(|column| Some(*column) == node.tenant)?;
                Some((key.referenced.0, *key.referenced_columns.get(at)?))
            })
            .collect();
        for (target, column) in targets {
            if let Some(parent) = nodes.get_mut(&target).filter(|parent| parent.tenant.is_none()) {
                parent.tenant = Some(column);
                work.push(target);
            }
        }
    }
}

/// What the roles may do to the tables; pairs without any right are left out.
pub(crate) async fn privileges(
    connection: &mut PgConnection,
    tables: &[Oid],
    roles: &[Oid],
) -> Result<BTreeMap<(u32, u32), Privileges>> {
    let rows: Vec<Privileges> = sqlx::query_as(include_str!("../../../sql/rls/probe/privileges.sql"))
        .bind(tables)
        .bind(roles)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| ((row.relation.0, row.role.0), row)).collect())
}

/// What the policies of the tables say.
pub(crate) async fn policies(
    connection: &mut PgConnection,
    tables: &[Oid],
) -> Result<BTreeMap<u32, Policies>> {
    let rows: Vec<Policies> = sqlx::query_as(include_str!("../../../sql/rls/probe/policies.sql"))
        .bind(tables)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.relation.0, row)).collect())
}
