//! A private PostgreSQL server run from the binaries on this machine.
//!
//! [`Persistent`] is the server that an operator keeps: started on demand, shared by every command of the same
//! user, left running. [`Ephemeral`] is thrown away with the process that started it, however that process ends.
//! Both listen on a Unix socket in a directory of their own and on nothing else. The superuser `postgres` is let in
//! by the operating system's word (peer) for the OS user that runs the server and for root; every other role needs
//! its password (SCRAM). No secret is made, stored or printed.
//!
//! Everything here blocks; from asynchronous code call it through `tokio::task::spawn_blocking`.

mod account;
mod binaries;
mod cluster;
mod endpoint;
mod ephemeral;
mod error;
mod persistent;
mod postmaster;

pub use binaries::{Binaries, Machine, Request};
pub use endpoint::Endpoint;
pub use ephemeral::Ephemeral;
pub use error::{Error, Rejected, Result};
pub use persistent::{Persistent, Started, Status};
