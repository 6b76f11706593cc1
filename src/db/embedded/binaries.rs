//! Finding PostgreSQL's server binaries on this machine.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::Account;
use super::error::{Error, Rejected, Result};

/// The oldest major version whose behaviour the library is tested against.
const OLDEST: u16 = 15;

/// Which binaries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Look in this directory only.
    pub bin_dir: Option<PathBuf>,
    /// Take exactly this major version; without it, the newest of 15 or newer.
    pub major: Option<u16>,
}

/// Where to look on a machine, apart from a directory that the request names.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The search path for programs.
    pub path: Option<OsString>,
    /// What every fixed place is relative to: `/`, but for tests.
    pub root: PathBuf,
    /// The operating system, as [`std::env::consts::OS`] names it.
    pub os: String,
}

impl Machine {
    /// The machine that this process runs on.
    pub fn this() -> Self {
        Self { path: std::env::var_os("PATH"), root: "/".into(), os: std::env::consts::OS.into() }
    }
}

/// A directory with `initdb`, `pg_ctl` and `postgres` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The directory.
    pub dir: PathBuf,
    /// The major version.
    pub major: u16,
    /// The whole version, as PostgreSQL prints it: `15.20`, `18beta1`.
    pub version: String,
}

impl Binaries {
    /// The newest binaries on this machine that fit the request and that the server's OS user can run.
    pub fn find(request: &Request) -> Result<Self> {
        Self::find_on(request, &Machine::this())
    }

    /// The same on a machine that the caller describes.
    pub fn find_on(request: &Request, machine: &Machine) -> Result<Self> {
        Self::find_for(request, machine, &Account::for_server()?)
    }

    /// The same for the OS user who runs the server.
    pub(super) fn find_for(request: &Request, machine: &Machine, account: &Account) -> Result<Self> {
        let searched = match &request.bin_dir {
            Some(dir) => vec![std::path::absolute(dir).map_err(Error::io("find", dir))?],
            None => machine.places(),
        };
        let mut rejected = Vec::new();
        let mut seen = HashSet::new();
        let mut best: Option<Self> = None;
        for dir in &searched {
            let missing = missing(dir);
            if !missing.is_empty() {
                if request.bin_dir.is_some() {
                    let reason = format!("{} missing", missing.join(", "));
                    rejected.push(Rejected { dir: dir.clone(), reason });
                }
                continue;
            }
            // Links in /usr/local/bin and the like lead to one directory, whose programs belong together; the same
            // one is often reachable by several names, and asked once.
            let dir = &real(dir);
            if !seen.insert(dir.clone()) {
                continue;
            }
            match Self::examine(dir, request.major, account) {
                Ok(found) if best.as_ref().is_none_or(|best| found.major > best.major) => best = Some(found),
                Ok(_) => {}
                Err(reason) => rejected.push(Rejected { dir: dir.clone(), reason }),
            }
        }
        best.ok_or_else(|| Error::NoBinaries {
            major: request.major,
            searched,
            rejected,
            install: machine.install_command(request.major),
        })
    }

    /// The path of one of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn examine(dir: &Path, major: Option<u16>, account: &Account) -> Result<Self, String> {
        // Run as the server's user, so that binaries this user cannot reach are never chosen.
        let output = match account.command(dir.join("postgres")).arg("--version").output() {
            Ok(output) => output,
            Err(err) if err.kind() == io::ErrorKind::PermissionDenied => {
                return Err(match account.blocked(&dir.join("postgres")) {
                    Some(blocked) => format!(
                        "the server runs as OS user `{}`, who cannot enter {}",
                        account.name,
                        blocked.display()
                    ),
                    None => format!("OS user `{}` cannot run them", account.name),
                });
            }
            Err(err) => return Err(err.to_string()),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let Some((version, found)) = parse_version(&said) else {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "`postgres --version` says {:?}",
                errors.lines().next().unwrap_or(said.trim())
            ));
        };
        match major {
            Some(major) if major != found => Err(format!("version {version}, not {major}")),
            None if found < OLDEST => Err(format!("version {version} is too old")),
            _ => Ok(Self { dir: dir.to_owned(), major: found, version: version.to_owned() }),
        }
    }
}

/// `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)` is `15.20` of major 15; `18beta1` is of major 18.
fn parse_version(said: &str) -> Option<(&str, u16)> {
    let version = said.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    Some((version, version[..digits].parse().ok()?))
}

impl Machine {
    fn places(&self) -> Vec<PathBuf> {
        let mut places: Vec<PathBuf> =
            self.path.iter().flat_map(std::env::split_paths).filter(|dir| dir.is_absolute()).collect();
        if let Some(pg_config) = places.iter().map(|dir| dir.join("pg_config")).find(|file| file.is_file()) {
            let output = Command::new(pg_config).arg("--bindir").stdin(Stdio::null()).output();
            if let Ok(output) = output
                && output.status.success()
            {
                places.push(String::from_utf8_lossy(&output.stdout).trim().into());
            }
        }
        for (above, prefix, below) in [
            ("usr/lib/postgresql", "", "bin"),
            ("usr", "pgsql-", "bin"),
            ("opt/homebrew/opt", "postgresql", "bin"),
            ("usr/local/opt", "postgresql", "bin"),
            ("Applications/Postgres.app/Contents/Versions", "", "bin"),
        ] {
            places.extend(children(&self.root.join(above), prefix).into_iter().map(|dir| dir.join(below)));
        }
        for cellar in ["opt/homebrew/Cellar", "usr/local/Cellar"] {
            for formula in children(&self.root.join(cellar), "postgresql") {
                places.extend(children(&formula, "").into_iter().map(|dir| dir.join("bin")));
            }
        }
        let mut seen = HashSet::new();
        places.retain(|dir| dir.is_dir() && seen.insert(dir.clone()));
        places
    }

    /// The command that installs the server on this platform.
    fn install_command(&self, major: Option<u16>) -> String {
        if self.os == "macos" {
            return format!("brew install postgresql@{}", major.unwrap_or(18));
        }
        let release = fs::read_to_string(self.root.join("etc/os-release")).unwrap_or_default();
        let family: Vec<_> = release
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
            .flat_map(|value| value.trim_matches('"').split_whitespace())
            .collect();
        let is = |names: &[&str]| names.iter().any(|name| family.contains(name));
        match major {
            Some(major) if is(&["debian", "ubuntu"]) => format!("apt-get install postgresql-{major}"),
            None if is(&["debian", "ubuntu"]) => "apt-get install postgresql".into(),
            Some(major) if is(&["fedora", "rhel", "centos"]) => {
                format!("dnf install postgresql{major}-server")
            }
            None if is(&["fedora", "rhel", "centos"]) => "dnf install postgresql-server".into(),
            Some(major) if is(&["alpine"]) => format!("apk add postgresql{major}"),
            None if is(&["alpine"]) => "apk add postgresql".into(),
            _ if is(&["arch"]) => "pacman -S postgresql".into(),
            _ if is(&["suse", "opensuse"]) => "zypper install postgresql-server".into(),
            _ => "see https://www.postgresql.org/download/".into(),
        }
    }
}

/// The programs that a directory lacks.
fn missing(dir: &Path) -> Vec<&'static str> {
    ["initdb", "pg_ctl", "postgres"].into_iter().filter(|name| !dir.join(name).is_file()).collect()
}

/// Where the programs of a directory really are, if they are all in one place.
fn real(dir: &Path) -> PathBuf {
    fs::canonicalize(dir.join("postgres"))
        .ok()
        .and_then(|postgres| postgres.parent().map(Path::to_owned))
        .filter(|real| missing(real).is_empty())
        .unwrap_or_else(|| dir.to_owned())
}

/// The entries of a directory whose names start with `prefix`; none where it cannot be read.
fn children(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_every_kind_of_build_are_read() {
        for (said, version, major) in [
            ("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)\n", "15.20", 15),
            ("postgres (PostgreSQL) 18beta1\n", "18beta1", 18),
            ("postgres (PostgreSQL) 9.6.24\n", "9.6.24", 9),
        ] {
            assert_eq!(parse_version(said), Some((version, major)));
        }
        assert_eq!(parse_version("postgres: error while loading shared libraries"), None);
    }
}
