//! Row-level security: what `setup` makes of a database, and what `verify` finds in it.

mod catalog;
pub mod check;
pub mod contract;
mod drift;
mod harden;
pub mod ignore;
pub mod mutate;
pub mod online;
mod path;
mod platform;
mod pooler;
mod probe;
mod protection;
pub mod report;
mod scope;
pub mod setup;
pub mod source;
pub mod teardown;
mod unfinished;
pub mod verify;

pub use check::Check;
pub use contract::Contract;
pub use ignore::{Baseline, Ignore};
pub(crate) use platform::{explain, table};
pub use probe::Progress;
pub use report::{Finding, NotProven, Report, Severity};
pub use verify::{Options, verify};
