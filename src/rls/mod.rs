//! Row-level security: what `setup` makes of a database, and what `verify` finds in it.

pub mod setup;
