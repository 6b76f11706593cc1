//! Bringing the control plane's schema to the version of this library.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::PgDatabaseError;

use super::Transaction;
use crate::plan::{self, Catalogue};
use crate::{Error, Result};

static MIGRATOR: Migrator = sqlx::migrate!();

/// "tenancy" in ASCII. Advisory locks are the database's own: two migrations of one database exclude each other by it.
const ADVISORY_LOCK: i64 = 0x0074_656e_616e_6379;

/// The newest migration that this library has: what the database must be at.
pub fn required_version() -> i64 {
    MIGRATOR.iter().map(|m| m.version).max().unwrap_or_default()
}

/// One migration that a run applied.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AppliedMigration {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub description: String,
    /// How long it took.
    #[serde(rename = "duration_ms", serialize_with = "milliseconds")]
    pub duration: Duration,
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_millis())
}

/// What a run of [`migrate`] did.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Migrations {
    /// Version of the schema afterwards.
    pub version: i64,
    /// What was applied, in order; empty where the schema was up to date.
    pub applied: Vec<AppliedMigration>,
    /// Whether the database had no plans yet and got the default catalogue.
    pub catalogue_applied: bool,
}

/// What the bootstrap says where the control plane was made with another prefix is a mistake in the configuration.
fn wrong_prefix(error: sqlx::Error) -> Error {
    match error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()) {
        Some(error) if error.code() == "TN011" => {
            Error::Configuration { what: error.message().to_owned(), hint: error.hint().map(str::to_owned) }
        }
        _ => error.into(),
    }
}

/// Creates the roles and the schema where they are missing, applies the missing migrations, and fills an empty
/// catalogue, all in the caller's transaction (begun with [`super::Session::begin`]): it either all happens or none of
/// it. Waits for a migration of the same database that is under way.
///
/// # Errors
/// [`Error::Configuration`] where the control plane was made with another `role_prefix`;
/// [`Error::Database`] of kind refused where schema `tenancy` or a role of the prefix is not of this library's making;
/// [`Error::SchemaVersion`] where the database is newer than this library, or was migrated by different files under the
/// same numbers; [`Error::Database`] where the connecting role may not create roles or schemas.
pub async fn migrate(transaction: &mut Transaction<'_>, role_prefix: &str) -> Result<Migrations> {
    let connection: &mut PgConnection = transaction;
    sqlx::query_file!("sql/db/lock.sql", ADVISORY_LOCK).fetch_one(&mut *connection).await?;
    sqlx::query_file!("sql/db/set_role_prefix.sql", role_prefix).fetch_one(&mut *connection).await?;
    sqlx::raw_sql(include_str!("../../sql/db/bootstrap.sql"))
        .execute(&mut *connection)
        .await
        .map_err(wrong_prefix)?;

    let table = MIGRATOR.table_name.as_ref();
    connection.ensure_migrations_table(table).await?;
    let present = connection.list_applied_migrations(table).await?;
    for applied in &present {
        match MIGRATOR.iter().find(|m| m.version == applied.version) {
            Some(known) if known.checksum == applied.checksum => {}
            Some(_) => {
                return Err(Error::SchemaVersion {
                    what: format!(
                        "migration {} in the database differs from this program's",
                        applied.version
                    ),
                    hint: "use the tenantctl that migrated the database, or a newer one".into(),
                });
            }
            None => {
                return Err(Error::SchemaVersion {
                    what: format!(
                        "the database has migration {}, which this program does not know",
                        applied.version
                    ),
                    hint: "use a newer tenantctl".into(),
                });
            }
        }
    }
    let mut applied = Vec::new();
    for migration in MIGRATOR.iter().filter(|m| present.iter().all(|p| p.version != m.version)) {
        let duration = connection.apply(table, migration).await?;
        applied.push(AppliedMigration {
            version: migration.version,
            description: migration.description.to_string(),
            duration,
        });
    }
    let catalogue_applied = plan::is_empty(connection).await?;
    if catalogue_applied {
        plan::write(connection, &Catalogue::default_plans()?).await?;
    }
    Ok(Migrations { version: required_version(), applied, catalogue_applied })
}
