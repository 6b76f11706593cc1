//! Where a server listens, and how to connect to it.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::error::{Error, Result};

/// The port in the socket's name; nothing listens on a network.
const PORT: u16 = 5432;

/// The longest socket path that every platform takes (macOS: 104 bytes with the final zero).
const SOCKET_PATH_LIMIT: usize = 103;

/// The superuser of every embedded server.
pub(super) const SUPERUSER: &str = "postgres";

/// The database that every embedded server has.
pub(super) const DATABASE: &str = "tenancy";

/// The directory of a server's Unix socket, from which everything needed to connect follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    socket_dir: PathBuf,
}

impl Endpoint {
    pub(super) fn new(socket_dir: PathBuf) -> Result<Self> {
        let path = socket(&socket_dir);
        if path.as_os_str().len() > SOCKET_PATH_LIMIT {
            return Err(Error::SocketPathTooLong { path, limit: SOCKET_PATH_LIMIT });
        }
        Ok(Self { socket_dir })
    }

    /// The directory of the socket.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Options that connect the superuser to the database `tenancy`.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket_dir)
            .port(PORT)
            .username(SUPERUSER)
            .database(DATABASE)
            .ssl_mode(PgSslMode::Disable)
    }

    /// The same as a URL, for sqlx and for libpq alike. It holds no secret.
    ///
    /// The user goes into the query, since a URL with a user but no host is one that sqlx does not take.
    pub fn url(&self) -> String {
        let mut host = String::new();
        for &byte in self.socket_dir.as_os_str().as_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => host.push(byte.into()),
                // Writing to a String cannot fail.
                _ => drop(write!(host, "%{byte:02X}")),
            }
        }
        format!("postgresql:///{DATABASE}?host={host}&port={PORT}&user={SUPERUSER}&sslmode=disable")
    }
}

/// Whether a socket in this directory has a path that every platform takes.
pub(super) fn fits(socket_dir: &Path) -> bool {
    socket(socket_dir).as_os_str().len() <= SOCKET_PATH_LIMIT
}

/// The socket's path.
pub(super) fn socket(socket_dir: &Path) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{PORT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_says_what_the_options_say_whatever_the_directory_is_called() {
        let endpoint = Endpoint::new("/tmp/it's 100% a&b=c ü?#".into()).unwrap();
        let parsed: PgConnectOptions = endpoint.url().parse().unwrap();
        let options = endpoint.options();
        assert_eq!(parsed.get_socket(), options.get_socket());
        assert_eq!(parsed.get_port(), options.get_port());
        assert_eq!(parsed.get_username(), options.get_username());
        assert_eq!(parsed.get_database(), options.get_database());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_an_error_that_names_it() {
        let error = Endpoint::new(format!("/tmp/{}", "x".repeat(100)).into()).unwrap_err();
        assert!(matches!(error, Error::SocketPathTooLong { limit: 103, .. }), "{error}");
    }
}
