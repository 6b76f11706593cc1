//! The OS user who runs the server: oneself, or for root another one, since PostgreSQL refuses root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::{Error, Result};

const PASSWD: &str = "/etc/passwd";

/// The OS user of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// We are root and have to become this user; otherwise we are this user.
    switch: bool,
}

impl Account {
    /// Who runs a new server: oneself; for root `postgres`, else `nobody`.
    pub(super) fn for_server() -> Result<Self> {
        if !is_root() {
            return Self::oneself();
        }
        let passwd = fs::read_to_string(PASSWD).map_err(Error::io("read", PASSWD))?;
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| entries(&passwd).find(|account| account.name == name && account.uid != 0))
            .ok_or(Error::NoServerAccount { passwd: PASSWD })
    }

    /// Who runs a server on data that exists: its owner, if we are root; otherwise it can only be oneself.
    pub(super) fn for_data(dir: &Path) -> Result<Self> {
        if !is_root() {
            return Self::oneself();
        }
        let owner = fs::metadata(dir).map_err(Error::io("look at", dir))?.uid();
        let passwd = fs::read_to_string(PASSWD).map_err(Error::io("read", PASSWD))?;
        entries(&passwd)
            .find(|account| account.uid == owner && owner != 0)
            .ok_or(Error::NamelessUser { uid: owner })
    }

    /// The user who runs this process.
    pub(super) fn oneself() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let nameless = Error::NamelessUser { uid };
        // The file first, since it costs no process; `id` also knows LDAP and macOS's directory service.
        let listed = fs::read_to_string(PASSWD).ok().and_then(|passwd| {
            entries(&passwd).find(|account| account.uid == uid).map(|account| account.name)
        });
        let name = match listed {
            Some(name) => name,
            None => {
                let output = Command::new("id").arg("-un").stdin(Stdio::null()).output();
                match output {
                    Ok(output) if output.status.success() => {
                        String::from_utf8_lossy(&output.stdout).trim().to_owned()
                    }
                    _ => return Err(nameless),
                }
            }
        };
        if name.is_empty() { Err(nameless) } else { Ok(Self { name, uid, gid, switch: false }) }
    }

    /// A command that runs as this user, in a process group of its own (the terminal's Ctrl-C does not reach it),
    /// from a directory that everybody can enter, and without our environment: neither `PG*` variables nor an
    /// operator's secrets belong in a server that outlives the command.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("TZ", "UTC").env("LC_ALL", "C");
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.current_dir("/").process_group(0).stdin(Stdio::null());
        if self.switch {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Hands a file or directory over to this user.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        if self.switch {
            chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io("change the owner of", path))?;
        }
        Ok(())
    }

    /// That this user can enter every directory on the way to `path`.
    pub(super) fn reaches(&self, path: &Path) -> Result<()> {
        match self.blocked(path) {
            Some(blocked) => {
                Err(Error::Unreachable { user: self.name.clone(), blocked, path: path.to_owned() })
            }
            None => Ok(()),
        }
    }

    /// The first directory above `path` that this user cannot enter.
    pub(super) fn blocked(&self, path: &Path) -> Option<PathBuf> {
        if !self.switch {
            return None; // Our own errors come with the path already.
        }
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut above: Vec<_> = path.ancestors().skip(1).collect();
        above.reverse();
        above
            .into_iter()
            .find(|dir| fs::metadata(dir).is_ok_and(|meta| !self.may(&meta, 1)))
            .map(Path::to_owned)
    }

    /// Whether this user can create files in `dir`.
    pub(super) fn can_write(&self, dir: &Path) -> bool {
        match fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => !self.switch || (self.may(&meta, 3) && self.blocked(dir).is_none()),
            _ => false,
        }
    }

    fn may(&self, meta: &fs::Metadata, bits: u32) -> bool {
        let shift = if meta.uid() == self.uid {
            6
        } else if meta.gid() == self.gid {
            3
        } else {
            0
        };
        meta.mode() >> shift & bits == bits
    }
}

/// Whether we are root.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn entries(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid, switch: is_root() })
    })
}
