//! How the library reaches PostgreSQL: connections, transactions, migrations and the embedded server.

pub mod embedded;
pub mod quote;
