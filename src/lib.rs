//! Tenants, plans, limits and isolation for platforms that keep many tenants in one PostgreSQL.
//!
//! The decisions (who sees which row, whether a limit allows more) are made in the database, by policies and functions
//! that the migrations install; a service in any language gets the same answers. This library gives them types,
//! transactions and errors. Every operation takes a connection that is inside a transaction of the caller's
//! ([`db::Session::begin_as_owner`]), so that several make one change and a dry run is a rollback.

mod audit;
mod change;
pub mod config;
pub mod context;
pub mod db;
mod error;
mod id;
pub mod limit;
pub mod metric;
pub mod plan;
pub mod rls;
mod suggest;
pub mod tenant;
mod unit;
pub mod usage;
pub mod user;
mod validate;

pub use change::{Change, Outcome};
pub use error::{Error, ErrorKind, Excess, Result};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
