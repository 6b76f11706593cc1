//! How the library reaches PostgreSQL: connections, transactions, migrations and the embedded server.

mod connect;
pub mod embedded;
mod facts;
mod migrate;
pub mod quote;
pub(crate) mod script;
mod transaction;

pub(crate) use connect::redact;
pub use connect::{PoolSettings, connect, parse_url, pool};
pub use facts::{Facts, SchemaVersion, facts, run_script};
pub use migrate::{AppliedMigration, Migrations, migrate, required_version};
pub use transaction::{Session, Transaction};
