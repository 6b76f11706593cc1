//! What the catalogue says of a platform.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use super::syntax::Library;
use crate::Result;

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Table {
    pub(super) oid: Oid,
    pub(super) schema: String,
    pub(super) name: String,
    /// With its schema, as SQL takes it and as the contract names it.
    pub(super) quoted: String,
    pub(super) row_security: bool,
    pub(super) owner: String,
    /// What it is a partition or an inheritance child of.
    pub(super) parent: Option<Oid>,
    #[sqlx(skip)]
    pub(super) columns: Vec<Column>,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Column {
    pub(super) relation: Oid,
    pub(super) name: String,
    pub(super) quoted: String,
    pub(super) type_name: String,
    pub(super) category: String,
    pub(super) length: Option<i32>,
    /// Whether a row needs a value for it.
    pub(super) required: bool,
    /// The first value of an enumeration.
    pub(super) label: Option<String>,
    pub(super) target: Option<Oid>,
    pub(super) target_column: Option<String>,
    /// Whether a trigger on what it references may have made the one row with the value already.
    pub(super) made: bool,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Policy {
    pub(super) relation: Oid,
    pub(super) permissive: bool,
    pub(super) roles: Vec<String>,
    pub(super) qual: Option<String>,
    pub(super) checked: Option<String>,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Role {
    pub(super) name: String,
    pub(super) login: bool,
    pub(super) superuser: bool,
    pub(super) bypass: bool,
    pub(super) owns: bool,
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Reach {
    pub(super) role: String,
    pub(super) relation: Oid,
    pub(super) reads: bool,
    pub(super) writes: bool,
    /// Whether a permissive policy of the table is for the role.
    pub(super) admitted: bool,
}

#[derive(sqlx::FromRow)]
struct Function {
    schema: String,
    name: String,
    body: String,
}

/// The platform's tables with their policies, and the functions behind them.
pub(super) struct Facts {
    pub(super) tables: Vec<Table>,
    pub(super) policies: Vec<Policy>,
    pub(super) library: Library,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl Facts {
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self> {
        let mut tables: Vec<Table> = sqlx::query_as(include_str!("../../../../sql/rls/contract/tables.sql"))
            .fetch_all(&mut *connection)
            .await?;
        // Supabase's own schemas are not the platform's to mend.
        if tables.iter().any(|table| table.schema == "auth" && table.name == "users") {
            tables.retain(|table| !["storage", "realtime", "vault", "net"].contains(&table.schema.as_str()));
        }
        let oids: Vec<Oid> = tables.iter().map(|table| table.oid).collect();
        let columns: Vec<Column> = sqlx::query_as(include_str!("../../../../sql/rls/contract/columns.sql"))
            .bind(&oids)
            .fetch_all(&mut *connection)
            .await?;
        let mut of: BTreeMap<u32, Vec<Column>> = BTreeMap::new();
        for column in columns {
            of.entry(column.relation.0).or_default().push(column);
        }
        for table in &mut tables {
            table.columns = of.remove(&table.oid.0).unwrap_or_default();
        }
        let policies = sqlx::query_as(include_str!("../../../../sql/rls/contract/policies.sql"))
            .bind(&oids)
            .fetch_all(&mut *connection)
            .await?;
        let functions: Vec<Function> =
            sqlx::query_as(include_str!("../../../../sql/rls/contract/functions.sql"))
                .fetch_all(connection)
                .await?;
        let mut library = Library::default();
        for function in &functions {
            library.add(&function.schema, &function.name, &function.body);
        }
        Ok(Self { tables, policies, library })
    }

    pub(super) fn table(&self, oid: Oid) -> Option<&Table> {
        self.tables.iter().find(|table| table.oid == oid)
    }

    /// The table that a name in an expression means.
    pub(super) fn named(&self, path: &[String]) -> Option<&Table> {
        match path {
            [schema, name] => self.tables.iter().find(|t| t.schema == *schema && t.name == *name),
            [name] => {
                let mut found: Vec<_> = self.tables.iter().filter(|t| t.name == *name).collect();
                found.sort_by_key(|table| table.schema != "public");
                found.first().copied()
            }
            _ => None,
        }
    }
}

pub(super) async fn roles(connection: &mut PgConnection, tables: &[Oid]) -> Result<Vec<Role>> {
    let query = sqlx::query_as(include_str!("../../../../sql/rls/contract/roles.sql"));
    Ok(query.bind(tables).fetch_all(connection).await?)
}

pub(super) async fn reach(
    connection: &mut PgConnection,
    roles: &[String],
    tables: &[Oid],
) -> Result<Vec<Reach>> {
    let query = sqlx::query_as(include_str!("../../../../sql/rls/contract/reach.sql"));
    Ok(query.bind(roles).bind(tables).fetch_all(connection).await?)
}
