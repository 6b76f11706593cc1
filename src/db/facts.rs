//! What a connection is connected to.

use sqlx::PgConnection;

use crate::Result;

/// What a server says of itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// As in `server_version`.
    pub server_version: String,
    /// Name of the database.
    pub database: String,
    /// The connecting role.
    pub user: String,
    /// Version of the control plane's schema.
    pub schema: SchemaVersion,
}

/// What can be told of the control plane's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaVersion {
    /// There is no control plane.
    None,
    /// There is one, but the connecting role may not read its version.
    Unreadable,
    /// Its version.
    Version(i64),
}

/// Asks the server. In a transaction, names without a schema mean PostgreSQL's own from here on.
///
/// # Errors
/// [`crate::Error::Database`].
pub async fn facts(connection: &mut PgConnection) -> Result<Facts> {
    sqlx::query_file!("sql/db/own_names.sql").fetch_one(&mut *connection).await?;
    let row = sqlx::query_file!("sql/db/facts.sql").fetch_one(&mut *connection).await?;
    let schema = match (row.present, row.readable) {
        (false, _) => SchemaVersion::None,
        (true, false) => SchemaVersion::Unreadable,
        (true, true) => SchemaVersion::Version(
            sqlx::query_file!("sql/db/version.sql").fetch_one(connection).await?.version,
        ),
    };
    Ok(Facts { server_version: row.server_version, database: row.database, user: row.user, schema })
}

/// Runs a script of SQL statements as it is, the way psql's `-f` does: the caller vouches for it.
///
/// # Errors
/// [`crate::Error::Database`], with the statements before the failure carried out unless the script is one transaction.
pub async fn run_script(connection: &mut PgConnection, script: &str) -> Result<()> {
    sqlx::raw_sql(super::quote::trusted(script.to_owned())).execute(connection).await?;
    Ok(())
}
