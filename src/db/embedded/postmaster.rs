//! What a data directory's `postmaster.pid` says, and whether it is still true.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use time::OffsetDateTime;

use super::account::Account;
use super::error::{Error, Result};

/// A process id that no system hands out.
const NO_PROCESS: &str = "2147483647";

/// A server process, as its lock file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: u32,
    pub(super) started_at: Option<OffsetDateTime>,
    /// `starting`, `stopping`, `ready` or `standby`.
    pub(super) state: String,
}

impl Postmaster {
    /// The server that runs on this data directory, if one does. A lock file that a crash or a reboot left behind
    /// counts for nothing, even where its process id belongs to some other program by now.
    pub(super) fn running(data: &Path) -> Result<Option<Self>> {
        Ok(Self::recorded(data)?.filter(|postmaster| postmaster.lives(data)))
    }

    /// What the lock file says.
    pub(super) fn recorded(data: &Path) -> Result<Option<Self>> {
        let file = file(data);
        match fs::read_to_string(&file) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(err) => Err(Error::io("read", file)(err)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        let pid = lines.first()?.parse::<i32>().ok()?.unsigned_abs();
        let started_at = lines
            .get(2)
            .and_then(|seconds| seconds.parse().ok())
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let state = lines.get(7).filter(|state| !state.is_empty()).unwrap_or(&"starting");
        Some(Self { pid, started_at, state: (*state).to_owned() })
    }

    /// Whether it takes connections.
    pub(super) fn is_ready(&self) -> bool {
        self.state == "ready"
    }

    /// Asks for a fast shutdown: sessions are ended, data is written out.
    pub(super) fn shut_down(&self, data: &Path) -> Result<()> {
        let pid = self.raw().ok_or_else(|| Error::NotACluster { file: file(data) })?;
        match kill_process(pid, Signal::INT) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::io("stop the server of", data)(errno.into())),
        }
    }

    fn raw(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
    }

    /// Whether the process is there and works on this data directory.
    pub(super) fn lives(&self, data: &Path) -> bool {
        let Some(pid) = self.raw() else { return false };
        if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            return false;
        }
        // The server changes into its data directory, so that tells it from a stranger with a recycled id.
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        if process.is_dir() {
            return match (fs::metadata(process.join("cwd")), fs::metadata(data)) {
                (Ok(cwd), Ok(data)) => (cwd.dev(), cwd.ino()) == (data.dev(), data.ino()),
                // A zombie has no directory, and a process of another user shows none: neither is ours.
                _ => false,
            };
        }
        Command::new("ps")
            .args(["-o", "command=", "-p", &self.pid.to_string()])
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("postgres"))
    }
}

/// Makes a lock file that names a stranger's process name none at all. The rest of the file stays, since the server
/// finds its crashed predecessor's shared memory by it, and with that any session that still writes.
///
/// The server's user does it: root does not write where another user could have put a symbolic link.
pub(super) fn disown_stale(data: &Path, account: &Account) -> Result<()> {
    const SCRIPT: &str = r#"cd "$0" && [ -e postmaster.pid ] || exit 0
        { echo "$1" && tail -n +2 postmaster.pid; } >postmaster.pid.new && mv postmaster.pid.new postmaster.pid"#;
    let output = account
        .command("/bin/sh")
        .args(["-c", SCRIPT])
        .arg(data)
        .arg(NO_PROCESS)
        .output()
        .map_err(Error::io("run", "/bin/sh"))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::io("write", file(data))(io::Error::other(reason)))
}

fn file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_without_a_state_is_a_server_that_is_starting() {
        let early = Postmaster::parse("4711\n/d\n1700000000\n5432\n/s\n").unwrap();
        assert_eq!((early.pid, early.state.as_str()), (4711, "starting"));
        let ready = Postmaster::parse("4711\n/d\n1700000000\n5432\n/s\n\n 1 2\nready   \n").unwrap();
        assert!(ready.is_ready());
    }

    #[test]
    fn a_process_of_somebody_else_is_no_server() {
        let data = tempfile::tempdir().unwrap();
        fs::write(file(data.path()), format!("{}\n/d\n1\n5432\n/s\n\n1 2\nready\n", std::process::id()))
            .unwrap();
        assert_eq!(Postmaster::running(data.path()).unwrap(), None);
        disown_stale(data.path(), &Account::oneself().unwrap()).unwrap();
        let text = fs::read_to_string(file(data.path())).unwrap();
        assert_eq!(text, "2147483647\n/d\n1\n5432\n/s\n\n1 2\nready\n");
    }
}
