//! How long a command takes from nothing to its answer, beside psql's in the same run: the two alternate, so that what
//! else the machine does hits both, and the medians are compared.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tenancy::db::embedded::{Ephemeral, Request};

/// Runs of each command. An even number of rounds would need an average for the median.
const ROUNDS: usize = 201;
/// Tenants in the list.
const TENANTS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let bin_dir = std::env::var_os("TENANTCTL_PG_BIN").map(Into::into);
    let server = Ephemeral::start_durable(&Request { bin_dir, major: None })?;
    let url = server.url();
    let tenantctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantctl"));
        command.env("TENANTCTL_URL", &url).args(arguments);
        command
    };
    let psql_path = real_psql();
    let psql = |arguments: &[&str]| {
        let mut command = Command::new(&psql_path);
        command.arg("--no-psqlrc").args(arguments);
        command
    };
    succeed(&mut tenantctl(&["db", "migrate"]))?;
    for tenant in 0..TENANTS {
        succeed(&mut tenantctl(&["tenant", "create", &format!("Tenant {tenant}")]))?;
    }
    let query = "SELECT slug, name, status, plan, created_at FROM tenancy.tenants ORDER BY slug";
    let mut out = std::io::stdout().lock();
    writeln!(out, "| command | median | beside | median | ratio |\n| --- | --- | --- | --- | --- |")?;
    for (ours, theirs, names) in [
        (tenantctl(&["--version"]), psql(&["--version"]), ["tenantctl --version", "psql --version"]),
        (
            tenantctl(&["tenant", "list"]),
            psql(&[&url, "-c", query]),
            ["tenantctl tenant list", "psql -c 'SELECT …'"],
        ),
    ] {
        let (ours, theirs) = compare(ours, theirs)?;
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        writeln!(out, "| `{}` | {ours:.1?} | `{}` | {theirs:.1?} | {ratio:.2} |", names[0], names[1])?;
    }
    Ok(())
}

/// psql itself: what is called psql on PATH may be a distribution's wrapper, which costs ten times as much.
fn real_psql() -> PathBuf {
    let output =
        Command::new("pg_config").arg("--bindir").output().map(|output| output.stdout).unwrap_or_default();
    let beside = Path::new(String::from_utf8_lossy(&output).trim()).join("psql");
    let newest = (15..=18).rev().map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/psql")));
    newest.chain([beside]).find(|path| path.is_file()).unwrap_or_else(|| "psql".into())
}

fn compare(mut ours: Command, mut theirs: Command) -> Result<(Duration, Duration), Box<dyn Error>> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(succeed(&mut ours)?);
        b.push(succeed(&mut theirs)?);
    }
    a.sort();
    b.sort();
    Ok((a[ROUNDS / 2], b[ROUNDS / 2]))
}

/// Runs a command to its end and gives the time it took.
fn succeed(command: &mut Command) -> Result<Duration, Box<dyn Error>> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let taken = began.elapsed();
    if output.status.success() {
        Ok(taken)
    } else {
        Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}
