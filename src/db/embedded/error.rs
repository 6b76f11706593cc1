//! What can go wrong with the embedded server, with the facts and the way out.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of an operation on an embedded server.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an embedded server could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No directory on this machine holds server binaries that fit.
    #[error(
        "no PostgreSQL {} server binaries (initdb, pg_ctl, postgres) found\n  searched: {}{}\n  to install them: {install}",
        Wanted(*.major), Paths(.searched), Reasons(.rejected)
    )]
    NoBinaries {
        /// The one major version that was asked for, or none: 15 or newer.
        major: Option<u16>,
        /// The directories that were looked into.
        searched: Vec<PathBuf>,
        /// Binaries that were found and do not do, with the reason.
        rejected: Vec<Rejected>,
        /// The command that installs them on this platform.
        install: String,
    },
    /// The cluster was made by another major version than the one asked for.
    #[error(
        "the cluster {} was made by PostgreSQL {have}, but {asked} was asked for; ask for {have}, or stop the server, \
         move that directory away and start again for a new cluster", cluster.display()
    )]
    OtherMajor {
        /// The data directory.
        cluster: PathBuf,
        /// The major version that made it.
        have: u16,
        /// The major version that was asked for.
        asked: u16,
    },
    /// The cluster exists, but not the binaries that can run it.
    #[error("the cluster {} needs PostgreSQL {major}: {source}", cluster.display())]
    ClusterWithoutBinaries {
        /// The data directory.
        cluster: PathBuf,
        /// The major version that made it.
        major: u16,
        /// What the search found.
        source: Box<Error>,
    },
    /// The file that tells a cluster's version is not readable as such.
    #[error("{} does not hold a PostgreSQL version; this is no data directory: move it away and start again", file.display())]
    NotACluster {
        /// The file `PG_VERSION`.
        file: PathBuf,
    },
    /// PostgreSQL refuses root, and no other OS user was found to run it.
    #[error(
        "PostgreSQL does not run as root, and {passwd} names neither `postgres` nor `nobody`; add one: useradd --system postgres"
    )]
    NoServerAccount {
        /// The user database that was read.
        passwd: &'static str,
    },
    /// The OS user who runs this has no name, and PostgreSQL insists on one.
    #[error(
        "the OS user with id {uid} has no name in the user database, which PostgreSQL needs; add an entry to /etc/passwd"
    )]
    NamelessUser {
        /// The user id.
        uid: u32,
    },
    /// The OS user who runs the server cannot get into a directory.
    #[error(
        "the server runs as OS user `{user}`, who cannot enter {}, so not use {}; open it (chmod o+x {}) or use another place",
        blocked.display(), path.display(), blocked.display()
    )]
    Unreachable {
        /// The OS user of the server.
        user: String,
        /// The directory that lets nobody else in.
        blocked: PathBuf,
        /// What lies behind it.
        path: PathBuf,
    },
    /// Somebody else owns the directory where the socket should be.
    #[error("the socket directory {} is not a directory that only `{user}` can enter; remove it and start again", dir.display())]
    SocketDirTaken {
        /// The directory.
        dir: PathBuf,
        /// The OS user who should own it.
        user: String,
    },
    /// Others than the user who runs this could put their own files where the data is.
    #[error(
        "others can write to {} (it belongs to user id {owner}, mode {mode:04o}), so what lies in it is not trusted; close \
         it (chown it to yourself, chmod go-w) or name another directory", dir.display()
    )]
    DirOpenToOthers {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who may do what.
        mode: u32,
    },
    /// The path of the socket exceeds what the operating system takes.
    #[error("the socket path {} is longer than {limit} bytes; use a shorter directory", path.display())]
    SocketPathTooLong {
        /// The path of the socket.
        path: PathBuf,
        /// The longest that works.
        limit: usize,
    },
    /// No home directory, so no place for the data.
    #[error(
        "no home directory is known for this OS user, so no place for the server's data; name a directory"
    )]
    NoHome,
    /// `initdb` or what follows it failed.
    #[error("PostgreSQL {major} could not make a cluster in {}:\n{}", dir.display(), Tail(.log))]
    Initialise {
        /// The major version of the binaries.
        major: u16,
        /// The data directory.
        dir: PathBuf,
        /// The last lines of what it said.
        log: String,
    },
    /// The server did not come up.
    #[error("PostgreSQL {major} did not start in {}:\n{}", dir.display(), Tail(.log))]
    Start {
        /// The major version of the binaries.
        major: u16,
        /// The data directory.
        dir: PathBuf,
        /// The last lines of its log.
        log: String,
    },
    /// The server is up, but neither became ready nor ended in time.
    #[error("the PostgreSQL server with process id {pid} in {} is {state} and did not get over it within {seconds} s; look at {}", dir.display(), dir.join("server.log").display())]
    Stuck {
        /// The postmaster's process id.
        pid: u32,
        /// The data directory.
        dir: PathBuf,
        /// What it says it is doing.
        state: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A file, directory or process could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The object.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: an [`Error::Io`] that names what was tried on what.
    pub(super) fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Binaries that were found and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The directory that holds them.
    pub dir: PathBuf,
    /// Why they do not do.
    pub reason: String,
}

struct Wanted(Option<u16>);

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(major) => write!(f, "{major}"),
            None => f.write_str("15 or newer"),
        }
    }
}

struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, path) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { ", " } else { "" }, path.display())?;
        }
        Ok(())
    }
}

struct Reasons<'a>(&'a [Rejected]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rejected in self.0 {
            write!(f, "\n  not usable: {}: {}", rejected.dir.display(), rejected.reason)?;
        }
        Ok(())
    }
}

struct Tail<'a>(&'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.trim().is_empty() {
            return f.write_str("  (its log is empty)");
        }
        let lines: Vec<_> = self.0.lines().collect();
        for (i, line) in lines[lines.len().saturating_sub(15)..].iter().enumerate() {
            write!(f, "{}  {line}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}
