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
    /// Version of the control plane's schema; none where there is no control plane that the role may read.
    pub schema_version: Option<i64>,
}

/// Asks the server.
///
/// # Errors
/// [`crate::Error::Database`].
pub async fn facts(connection: &mut PgConnection) -> Result<Facts> {
    let row = sqlx::query_file!("sql/db/facts.sql").fetch_one(&mut *connection).await?;
    let schema_version = match row.readable {
        true => Some(sqlx::query_file!("sql/db/version.sql").fetch_one(connection).await?.version),
        false => None,
    };
    Ok(Facts { server_version: row.server_version, database: row.database, user: row.user, schema_version })
}

/// Runs a script of SQL statements as it is, the way psql's `-f` does: the caller vouches for it.
///
/// # Errors
/// [`crate::Error::Database`], with the statements before the failure carried out unless the script is one transaction.
pub async fn run_script(connection: &mut PgConnection, script: &str) -> Result<()> {
    sqlx::raw_sql(super::quote::trusted(script.to_owned())).execute(connection).await?;
    Ok(())
}
