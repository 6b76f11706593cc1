//! The library and the program against a real PostgreSQL.

mod common;
mod rls_verify;
