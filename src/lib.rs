//! Tenants, plans, limits and isolation for platforms that keep many tenants in one PostgreSQL.

pub mod db;
mod error;
pub mod rls;

pub use error::{Error, ErrorKind, Excess, Result};
