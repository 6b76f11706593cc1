//! Row-level security: what `setup` makes of a database, and what `verify` finds in it.

pub mod report;
pub mod setup;
pub mod verify;
