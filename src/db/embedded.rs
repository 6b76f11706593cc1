//! A private PostgreSQL server run from the binaries on this machine.
