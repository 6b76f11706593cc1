//! What is in a cluster of ours: how it is made, its settings and who may connect.

use std::path::Path;
use std::process::Command;

use super::account::Account;
use super::binaries::Binaries;
use super::endpoint::{DATABASE, SUPERUSER};

/// Shell functions that make a cluster; a shell, so that it can all run as the server's user in one process group.
const INITIALISE: &str = include_str!("initialise.sh");

/// For [`shell`]: makes a cluster and nothing else.
pub(super) const INITIALISE_ONLY: &str = r#"initialise "$@""#;

/// How much the data is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Kept: the operator's data.
    Kept,
    /// Thrown away, but written as if it were kept, so that measurements mean something.
    Measured,
    /// Thrown away: nothing ever waits for the disk.
    Scratch,
}

const COMMON: &str = "
# Set by tenantctl.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 200
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
";

const SCRATCH: &str = "fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = '64MB'
autovacuum_naptime = '5min'
";

/// The superuser by the operating system's word; everybody else by password.
const HBA: &str = "# Set by tenantctl: no network, no trust.
local all postgres peer map=tenantctl
local all all scram-sha-256
";

/// A shell that runs `script` after the functions of [`INITIALISE`], as the server's user.
pub(super) fn shell(
    script: &str,
    data: &Path,
    binaries: &Binaries,
    account: &Account,
    durability: Durability,
) -> Command {
    let mut settings = COMMON.to_owned();
    if durability == Durability::Scratch {
        settings.push_str(SCRATCH);
    }
    let ident = format!(
        "# Set by tenantctl: OS users who are the superuser here.\n\
         tenantctl root {SUPERUSER}\ntenantctl \"{}\" {SUPERUSER}\n",
        account.name
    );
    let mut command = account.command("/bin/sh");
    command
        .env("BIN", &binaries.dir)
        .env("DATA", data)
        .env("DATABASE", DATABASE)
        .env("SETTINGS", settings)
        .env("HBA", HBA)
        .env("IDENT", ident)
        // From 17 on PostgreSQL brings a C.UTF-8 that is the same on every platform.
        .env("LOCALE", if binaries.major >= 17 { "builtin" } else { "libc" })
        .env("DURABLE", if durability == Durability::Kept { "yes" } else { "no" })
        .arg("-c")
        .arg(format!("{INITIALISE}\n{script}"))
        .arg("sh")
        .args(["--encoding=UTF8", "--auth-local=peer", "--auth-host=reject", "--no-instructions"])
        .arg(format!("--username={SUPERUSER}"));
    if durability != Durability::Scratch {
        command.arg("--data-checksums"); // The default from 18 on.
        return command;
    }
    command.arg("--wal-segsize=1"); // Small files are quicker to make.
    if binaries.major >= 18 {
        command.arg("--no-data-checksums");
    }
    command
}
