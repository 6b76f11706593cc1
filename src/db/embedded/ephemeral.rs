//! The server that is thrown away with the process that started it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

use super::account::Account;
use super::binaries::{Binaries, Machine, Request};
use super::cluster::{self, Durability};
use super::endpoint::{Endpoint, fits};
use super::error::{Error, Result};
use super::postmaster::Postmaster;

const SUPERVISE: &str = include_str!("supervise.sh");

/// How long a start may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long dropping waits for the end; what is not over by then goes on without us.
const FAREWELL: Duration = Duration::from_secs(2);

/// A server in a temporary directory; dropping it stops it and removes the directory.
///
/// A small shell supervises it and waits for the end of a pipe that only we hold open. So the server and its
/// directory also go when this process ends without dropping anything: on Ctrl-C, `abort` or SIGKILL.
#[derive(Debug)]
pub struct Ephemeral {
    supervisor: Child,
    /// The end of the pipe that says we live.
    life: Option<ChildStdin>,
    dir: PathBuf,
    endpoint: Endpoint,
    major: u16,
    pid: u32,
}

impl Ephemeral {
    /// Starts a server that never waits for the disk.
    pub fn start(request: &Request) -> Result<Self> {
        Self::start_with(request, Durability::Scratch)
    }

    /// The same with the disk writes of a real server, for measurements.
    pub fn start_durable(request: &Request) -> Result<Self> {
        Self::start_with(request, Durability::Measured)
    }

    /// Options that connect the superuser to the database `tenancy`.
    pub fn options(&self) -> PgConnectOptions {
        self.endpoint.options()
    }

    /// The same as a URL without a secret.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its temporary directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The major version of PostgreSQL.
    pub fn major(&self) -> u16 {
        self.major
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    fn start_with(request: &Request, durability: Durability) -> Result<Self> {
        let account = Account::for_server()?;
        let binaries = Binaries::find_for(request, &Machine::this(), &account)?;
        let dir = place(&account);
        let data = dir.join("data");
        let endpoint = Endpoint::new(dir.clone())?;
        let mut supervisor = cluster::shell(SUPERVISE, &data, &binaries, &account, durability)
            .env("DIR", &dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("run", "/bin/sh"))?;
        let life = supervisor.stdin.take();
        let mut server = Self { supervisor, life, dir, endpoint, major: binaries.major, pid: 0 };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(postmaster)) = Postmaster::recorded(&data)
                && postmaster.is_ready()
            {
                server.pid = postmaster.pid;
                return Ok(server);
            }
            let ended = server.supervisor.try_wait().map_err(Error::io("wait for", "/bin/sh"))?;
            if ended.is_some() || Instant::now() > deadline {
                // Its supervisor tells what happened; one that hangs tells nothing, but the log still lies there.
                let log = match ended {
                    Some(_) => server.last_words(),
                    None => std::fs::read_to_string(server.dir.join("log")).unwrap_or_default(),
                };
                return Err(Error::Start { major: binaries.major, dir: server.dir.clone(), log });
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// What the supervisor said when it ended: the tail of the server's log.
    fn last_words(&mut self) -> String {
        let mut bytes = Vec::new();
        match self.supervisor.stdout.take().map(|mut out| out.read_to_end(&mut bytes)) {
            Some(Ok(_)) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        }
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        drop(self.life.take());
        let deadline = Instant::now() + FAREWELL;
        while let Ok(None) = self.supervisor.try_wait()
            && Instant::now() < deadline
        {
            sleep(Duration::from_millis(2));
        }
    }
}

/// A new name where the server's user can make a directory and the socket's path stays short.
fn place(account: &Account) -> PathBuf {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("tenantctl-{}", &random[..12]);
    let preferred = std::env::temp_dir().join(&name);
    let above = std::env::temp_dir();
    if above.is_absolute() && fits(&preferred) && account.can_write(&above) {
        return preferred;
    }
    Path::new("/tmp").join(name)
}
