//! Every integration test in one binary, since linking costs more than running most of them.

// The attribute says nothing new to the compiler; clippy.toml's exceptions for tests go by it.
#[cfg(test)]
mod cli;
#[cfg(test)]
mod common;
#[cfg(test)]
mod context;
#[cfg(test)]
mod db;
#[cfg(test)]
mod embedded;
#[cfg(test)]
mod limit;
#[cfg(test)]
mod plan;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod rls_contract;
#[cfg(test)]
mod rls_corpus;
#[cfg(test)]
mod rls_mutate;
#[cfg(test)]
mod rls_pooler;
#[cfg(test)]
mod rls_schema;
#[cfg(test)]
mod rls_setup;
#[cfg(test)]
mod rls_verify;
#[cfg(test)]
mod tenant;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod user;
