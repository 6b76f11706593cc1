//! What isolation stands on besides policies: views, keys, immutable tenants, rights on what is still to come.

use sqlx::PgConnection;
use sqlx::postgres::types::Oid;

use super::platform::explain;
use super::protection::{Step, TableKind, TableProtection};
use crate::Result;

/// Hardens one relation; the statements that it took.
pub(super) async fn relation(tx: &mut PgConnection, relation: Oid, name: &str) -> Result<Vec<Step>> {
    harden(tx, relation, name, false).await
}

/// The unique keys of one relation, and what refers to them.
pub(super) async fn unique_keys(tx: &mut PgConnection, relation: Oid, name: &str) -> Result<Vec<Step>> {
    harden(tx, relation, name, true).await
}

async fn harden(tx: &mut PgConnection, relation: Oid, name: &str, keys_only: bool) -> Result<Vec<Step>> {
    sqlx::query_file_as!(Step, "sql/rls/harden.sql", relation, keys_only)
        .fetch_all(tx)
        .await
        .map_err(|error| explain(error, name))
}

/// Hardens the views over tenants' tables.
pub(super) async fn views(tx: &mut PgConnection) -> Result<Vec<TableProtection>> {
    let mut views = Vec::new();
    for view in sqlx::query_file!("sql/rls/views.sql").fetch_all(&mut *tx).await? {
        let steps = relation(&mut *tx, view.relation, &view.name).await?;
        let mut done = TableProtection::new(view.name, TableKind::View);
        done.extend(steps);
        views.push(done);
    }
    Ok(views)
}

/// Hardens the database as a whole.
pub(super) async fn database(tx: &mut PgConnection) -> Result<Vec<Step>> {
    Ok(sqlx::query_file_as!(Step, "sql/rls/harden_database.sql").fetch_all(tx).await?)
}

/// What would be mended of the references between these tables, with their tenant columns: a table and a note each.
pub(super) async fn proposals(
    connection: &mut PgConnection,
    relations: &[Oid],
    columns: &[String],
) -> Result<Vec<(Oid, String)>> {
    let found = sqlx::query_file!("sql/rls/crossing.sql", relations, columns).fetch_all(connection).await?;
    Ok(found.into_iter().map(|row| (row.relation, row.note)).collect())
}
