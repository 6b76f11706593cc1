//! The tests that need a PostgreSQL server.

#[cfg(test)]
mod common;
#[cfg(test)]
mod rls_setup;
