//! The platform's tables as the database lists them, what a person calls them, and what the database says about them.

use sqlx::postgres::types::Oid;
use sqlx::{Connection, PgConnection, Postgres};

use super::protection::TableKind;
use crate::{Error, Result};

/// A table of the platform as the database lists it.
pub(super) struct TableRow {
    pub(super) relation: Oid,
    pub(super) name: String,
    pub(super) schema_name: String,
    pub(super) table_name: String,
    pub(super) kind: String,
    pub(super) tenant_column: Option<String>,
    pub(super) protected: bool,
}

impl TableRow {
    /// What the table is; `None` where nobody said and it has no tenant column.
    pub(super) fn kind(&self) -> Result<Option<TableKind>> {
        Ok(Some(match self.kind.as_str() {
            "tenant" => TableKind::Tenant,
            "partition" => TableKind::Partition,
            "child" => TableKind::Child,
            "shared" => TableKind::Shared,
            "unclassified" => return Ok(None),
            other => {
                return Err(Error::BadData {
                    table: "platform_tables()",
                    column: "kind",
                    row: self.name.clone(),
                    value: other.to_owned(),
                    reason: "it is no kind of table that this program knows".into(),
                });
            }
        }))
    }
}

/// The table that a name means: as SQL reads it, or else letter for letter, so that nobody has to quote `we"ird é`.
pub(super) async fn find(connection: &mut PgConnection, known: &[TableRow], name: &str) -> Result<Oid> {
    if let Some(relation) =
        sqlx::query_file_scalar!("sql/rls/find_table.sql", name).fetch_one(connection).await?
    {
        return Ok(relation);
    }
    let plain = |row: &TableRow| format!("{}.{}", row.schema_name, row.table_name);
    let mut same = known.iter().filter(|row| row.table_name == name || plain(row) == name);
    match (same.next(), same.next()) {
        (Some(row), None) => Ok(row.relation),
        (Some(first), Some(second)) => Err(Error::Invalid {
            field: "table",
            value: name.to_owned(),
            reason: format!("it can mean {} or {}", first.name, second.name),
            hint: Some("name it with its schema".into()),
        }),
        (None, _) => {
            Err(Error::NotFound { kind: "table", name: name.to_owned(), suggestion: suggest(known, name) })
        }
    }
}

/// The same, for whoever has not listed the platform's tables.
pub(crate) async fn table(connection: &mut PgConnection, name: &str) -> Result<Oid> {
    let known = sqlx::query_file_as!(TableRow, "sql/rls/tables.sql", &["tenant_id".to_owned()])
        .fetch_all(&mut *connection)
        .await?;
    find(connection, &known, name).await
}

fn suggest(known: &[TableRow], name: &str) -> Option<String> {
    let name = name.to_lowercase();
    known
        .iter()
        .flat_map(|row| [row.table_name.clone(), format!("{}.{}", row.schema_name, row.table_name)])
        .map(|candidate| (strsim::jaro_winkler(&candidate.to_lowercase(), &name), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// For a look at the catalogue by statements of our own, where the caller's search_path may lead anywhere; to be rolled
/// back, which gives that path back.
pub(super) async fn look(connection: &mut PgConnection) -> Result<sqlx::Transaction<'_, Postgres>> {
    let mut look = connection.begin().await?;
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog, pg_temp").execute(&mut *look).await?;
    Ok(look)
}

/// What the database says about a table that isolation cannot apply to, as an error of its own.
pub(crate) fn explain(error: sqlx::Error, table: &str) -> Error {
    let Some(said) =
        error.as_database_error().and_then(|e| e.try_downcast_ref::<sqlx::postgres::PgDatabaseError>())
    else {
        return error.into();
    };
    let (what, hint) = (said.message().to_owned(), said.hint().map(str::to_owned));
    match said.code() {
        "42703" | "42804" | "42809" | "42P01" => {
            Error::Invalid { field: "table", value: table.to_owned(), reason: what, hint }
        }
        "TN010" => Error::Refused { what, hint },
        _ => error.into(),
    }
}
