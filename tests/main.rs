//! The library and the program against a real PostgreSQL.

#[cfg(test)]
mod common;
#[cfg(test)]
mod rls_verify;
