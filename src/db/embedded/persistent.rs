//! The server that is kept: one for all commands of a user, left running when they end.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use time::OffsetDateTime;

use super::account::{Account, is_root};
use super::binaries::{Binaries, Machine, Request};
use super::cluster::{self, Durability, INITIALISE_ONLY};
use super::endpoint::{Endpoint, fits};
use super::error::{Error, Result};
use super::postmaster::{Postmaster, disown_stale};

/// Crash recovery and a last checkpoint take their time; what takes longer than this wants a look.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the directory of a cluster in the making is called, before it gets its name.
const UNFINISHED: &str = "cluster.init-";

/// The shared server of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistent {
    dir: PathBuf,
}

/// A server that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The postmaster's process id.
    pub pid: u32,
    /// Its major version.
    pub major: u16,
    /// Whether this call started it; otherwise it ran already.
    pub fresh: bool,
}

/// What is known about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether it takes connections.
    pub running: bool,
    /// The postmaster's process id, also while it is starting or stopping.
    pub pid: Option<u32>,
    /// The major version of the cluster; none before the first start.
    pub major: Option<u16>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The directory of the socket.
    pub socket_dir: PathBuf,
    /// When the server was started.
    pub started_at: Option<OffsetDateTime>,
}

impl Persistent {
    /// The server of this directory; nothing happens yet.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir: std::path::absolute(&dir).unwrap_or(dir) }
    }

    /// The directory that is used unless another is named: `/var/lib/tenantctl` for root, since the server's user
    /// cannot enter root's home, else the platform's place for a user's data.
    pub fn default_dir() -> Result<PathBuf> {
        if is_root() {
            return Ok("/var/lib/tenantctl".into());
        }
        let places = directories::ProjectDirs::from("", "", "tenantctl").ok_or(Error::NoHome)?;
        Ok(places.data_local_dir().to_owned())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the server listens, whether or not it runs.
    pub fn endpoint(&self) -> Result<Endpoint> {
        Endpoint::new(self.socket_dir())
    }

    /// Options that connect the superuser to the database `tenancy`.
    pub fn options(&self) -> Result<PgConnectOptions> {
        Ok(self.endpoint()?.options())
    }

    /// The same as a URL without a secret.
    pub fn url(&self) -> Result<String> {
        Ok(self.endpoint()?.url())
    }

    /// Starts the server unless it runs, making its cluster first where there is none.
    ///
    /// Commands that do so at the same time end up with the same server. A command that is killed half-way leaves
    /// nothing that the next one could not go on from.
    pub fn start(&self, request: &Request) -> Result<Started> {
        self.make_dir()?;
        let lock = self.lock()?;
        let endpoint = self.endpoint()?;
        let data = self.data();
        let deadline = Instant::now() + PATIENCE;
        while let Some(running) = Postmaster::running(&data)? {
            if running.is_ready() {
                let major = self.major(request)?;
                return Ok(Started { endpoint, pid: running.pid, major, fresh: false });
            }
            self.wait_for(&running, deadline)?;
        }
        let (account, binaries) = if data.exists() {
            let account = Account::for_data(&data)?;
            account.reaches(&data)?;
            let binaries = self.binaries(request, &account)?;
            disown_stale(&data, &account)?;
            (account, binaries)
        } else {
            let account = Account::for_server()?;
            account.reaches(&data)?;
            let binaries = Binaries::find_for(request, &Machine::this(), &account)?;
            self.initialise(&lock, &binaries, &account)?;
            (account, binaries)
        };
        self.make_socket_dir(&account)?;
        let pid = self.launch(&binaries, &account)?;
        Ok(Started { endpoint, pid, major: binaries.major, fresh: true })
    }

    /// Shuts the server down, ending its sessions; false if it does not run.
    pub fn stop(&self) -> Result<bool> {
        let data = self.data();
        if !data.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let Some(running) = Postmaster::running(&data)? else { return Ok(false) };
        running.shut_down(&data)?;
        let deadline = Instant::now() + PATIENCE;
        // The process outlives its lock file by a moment, and whoever stops it may remove the directory next.
        let stopping = Postmaster { state: "stopping".into(), ..running };
        while stopping.lives(&data) {
            self.wait_for(&stopping, deadline)?;
        }
        Ok(true)
    }

    /// What can be seen from the files, without starting, waiting or changing anything.
    pub fn status(&self) -> Result<Status> {
        let data = self.data();
        let postmaster = Postmaster::running(&data)?;
        Ok(Status {
            running: postmaster.as_ref().is_some_and(Postmaster::is_ready),
            pid: postmaster.as_ref().map(|postmaster| postmaster.pid),
            major: if data.exists() { Some(recorded_major(&data)?) } else { None },
            socket_dir: self.socket_dir(),
            started_at: postmaster.and_then(|postmaster| postmaster.started_at),
            data_dir: data,
        })
    }

    fn data(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// Where the cluster's log goes.
    fn log(&self) -> PathBuf {
        self.data().join("server.log")
    }

    /// Beside the data where the path is short enough; else a short name in /tmp that follows from the directory.
    fn socket_dir(&self) -> PathBuf {
        let near = self.dir.join("run");
        if fits(&near) {
            return near;
        }
        let dir = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        // FNV-1a: the same in every build, which the standard library's hasher does not promise.
        let hash = dir.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        PathBuf::from(format!("/tmp/tenantctl-{hash:016x}"))
    }

    fn make_dir(&self) -> Result<()> {
        if self.dir.is_dir() {
            return Ok(());
        }
        // Root's directory is entered by the server's user; what lies in it is closed by itself.
        let mode = if is_root() { 0o711 } else { 0o700 };
        let parent = self.dir.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        match DirBuilder::new().mode(mode).create(&self.dir) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io("create", &self.dir)(err))
            }
            // Said again, since the umask of whoever runs this may have taken away what the server's user needs.
            _ => fs::set_permissions(&self.dir, Permissions::from_mode(mode))
                .map_err(Error::io("change the mode of", &self.dir)),
        }
    }

    /// That nobody else can put a cluster there for us to run, or a process id for us to end. What lies above it is
    /// up to whoever named it.
    fn check_dir(&self) -> Result<()> {
        let meta = fs::metadata(&self.dir).map_err(Error::io("look at", &self.dir))?;
        let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
        let ours = owner == 0
            || owner == rustix::process::geteuid().as_raw()
            || (is_root() && Account::for_server().is_ok_and(|account| account.uid == owner));
        if ours && mode & 0o022 == 0 {
            return Ok(());
        }
        Err(Error::DirOpenToOthers { dir: self.dir.clone(), owner, mode })
    }

    /// Held while a server is started or stopped. The kernel releases it when we die, and a shell that makes a
    /// cluster holds it too, so that nobody sweeps under its feet.
    fn lock(&self) -> Result<File> {
        self.check_dir()?;
        let path = self.dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(file)
    }

    /// The cluster's major version, if it is one that the request allows.
    fn major(&self, request: &Request) -> Result<u16> {
        let have = recorded_major(&self.data())?;
        match request.major {
            Some(asked) if asked != have => Err(Error::OtherMajor { cluster: self.data(), have, asked }),
            _ => Ok(have),
        }
    }

    fn binaries(&self, request: &Request, account: &Account) -> Result<Binaries> {
        let major = self.major(request)?;
        let exact = Request { major: Some(major), ..request.clone() };
        Binaries::find_for(&exact, &Machine::this(), account).map_err(|source| {
            Error::ClusterWithoutBinaries { cluster: self.data(), major, source: Box::new(source) }
        })
    }

    /// Under another name until it is whole, so that there is never half a cluster.
    fn initialise(&self, lock: &File, binaries: &Binaries, account: &Account) -> Result<()> {
        self.sweep()?;
        let random = uuid::Uuid::new_v4().simple().to_string();
        let new = self.dir.join(format!("{UNFINISHED}{}", &random[..8]));
        DirBuilder::new().mode(0o700).create(&new).map_err(Error::io("create", &new))?;
        account.own(&new)?;
        let held = lock.try_clone().map_err(Error::io("share", self.dir.join("lock")))?;
        let output = cluster::shell(INITIALISE_ONLY, &new, binaries, account, Durability::Kept)
            .stdin(Stdio::from(held))
            .output()
            .map_err(Error::io("run", "/bin/sh"))?;
        if !output.status.success() {
            self.sweep()?;
            let log = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            return Err(Error::Initialise { major: binaries.major, dir: self.data(), log });
        }
        fs::rename(&new, self.data()).map_err(Error::io("rename", &new))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", &self.dir))
    }

    /// Removes what commands that were killed left behind.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.dir).map_err(Error::io("list", &self.dir))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path()).map_err(Error::io("remove", entry.path()))?;
            }
        }
        Ok(())
    }

    /// A directory that only the server's user (and root) can enter; never one that somebody else put there first.
    fn make_socket_dir(&self, account: &Account) -> Result<()> {
        let dir = self.socket_dir();
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => account.own(&dir)?,
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(Error::io("create", dir)(err)),
        }
        let meta = fs::symlink_metadata(&dir).map_err(Error::io("look at", &dir))?;
        // Killed between making it and handing it over, root left it with itself.
        if is_root() && meta.is_dir() && meta.uid() == 0 {
            account.own(&dir)?;
        } else if !meta.is_dir() || meta.uid() != account.uid || meta.mode() & 0o077 != 0 {
            return Err(Error::SocketDirTaken { dir, user: account.name.clone() });
        }
        // No server runs, so these are leftovers; their process id may be a stranger's by now.
        for name in [".s.PGSQL.5432", ".s.PGSQL.5432.lock"] {
            let path = dir.join(name);
            match fs::remove_file(&path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path)(err));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn launch(&self, binaries: &Binaries, account: &Account) -> Result<u32> {
        let data = self.data();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = fs::metadata(self.log()).map_or(0, |meta| meta.len());
            // pg_ctl puts the server into a session of its own and leaves it there when we are killed. The shell
            // closes what our caller left open, or a script's `flock 9` would be held for as long as the server runs.
            let output = account
                .command("/bin/sh")
                .args(["-c", r#"exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec "$0" "$@""#])
                .arg(binaries.program("pg_ctl"))
                .args(["start", "--silent", "--wait", "--timeout=60", "-D"])
                .arg(&data)
                .arg("-l")
                .arg(self.log())
                .arg("-o")
                .arg(shell_option(b"-k ", &self.socket_dir()))
                .stdout(Stdio::null())
                .output()
                .map_err(Error::io("run", binaries.program("pg_ctl")))?;
            while let Some(running) = Postmaster::running(&data)? {
                if running.is_ready() {
                    return Ok(running.pid);
                }
                self.wait_for(&running, deadline)?;
            }
            let log = tail(&self.log(), before);
            // After a crash the old server's sessions take a moment to notice; nothing may start before that.
            if log.contains("pre-existing shared memory block") && Instant::now() < deadline {
                sleep(Duration::from_millis(100));
                continue;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            let log = if log.is_empty() { said.into_owned() } else { log };
            return Err(Error::Start { major: binaries.major, dir: data, log });
        }
    }

    fn wait_for(&self, postmaster: &Postmaster, deadline: Instant) -> Result<()> {
        if Instant::now() < deadline {
            sleep(Duration::from_millis(10));
            return Ok(());
        }
        Err(Error::Stuck {
            pid: postmaster.pid,
            dir: self.data(),
            state: postmaster.state.clone(),
            seconds: PATIENCE.as_secs(),
        })
    }
}

fn recorded_major(data: &Path) -> Result<u16> {
    let file = data.join("PG_VERSION");
    let text = fs::read_to_string(&file).map_err(Error::io("read", &file))?;
    text.trim().parse().map_err(|_| Error::NotACluster { file })
}

/// An option with a path, quoted for the shell that pg_ctl hands it to.
fn shell_option(option: &[u8], path: &Path) -> std::ffi::OsString {
    let mut quoted = option.to_vec();
    quoted.push(b'\'');
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    std::ffi::OsString::from_vec(quoted)
}

/// What was written to the log after this position, or the last of it.
fn tail(log: &Path, from: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(16_384)).min(end)))?;
        file.read_to_end(&mut bytes)
    });
    // A log that cannot be read explains nothing; the error around it still names the directory.
    if read.is_err() { String::new() } else { String::from_utf8_lossy(&bytes).into_owned() }
}
