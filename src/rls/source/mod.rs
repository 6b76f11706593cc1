//! A schema in files instead of a database: which files, in which order, and how they are applied.

mod apply;
mod failure;
mod file;
mod migrations;
mod prelude;

pub use apply::{Applied, apply, check};
pub use file::{SqlFile, schema_files};
pub use migrations::{Style, migrations};
