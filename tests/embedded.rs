//! The embedded server: that it comes up, that it goes, and that being killed at any moment does no harm.
//!
//! `TENANTCTL_PG_BIN` names the binaries to test with; without it, whatever the machine has. What has to be killed
//! runs in a process of its own: this test binary again, with only [`helper`] selected and a role in `HELPER`.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};
use tempfile::TempDir;
use tenancy::db::embedded::{Binaries, Ephemeral, Error, Machine, Persistent, Request};

const HELPER: &str = "TENANTCTL_TEST_HELPER";

fn request() -> Request {
    Request { bin_dir: std::env::var_os("TENANTCTL_PG_BIN").map(PathBuf::from), major: None }
}

/// A directory with a short path that the server's user can enter and write to.
fn scratch() -> TempDir {
    let dir = tempfile::Builder::new().prefix("tt-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    dir
}

fn query(options: &PgConnectOptions, sql: &'static str) -> Result<String, sqlx::Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut connection = options.connect().await?;
        let row = sqlx::query(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        row.try_get(0)
    })
}

/// Processes that run under `dir` or were told about it, apart from this one.
fn processes(dir: &Path) -> Vec<String> {
    let needle = dir.to_str().unwrap();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        let Some(pid) = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        let text = |file: &str| {
            String::from_utf8_lossy(&fs::read(process.join(file)).unwrap_or_default()).replace('\0', " ")
        };
        let cwd = fs::read_link(process.join("cwd")).unwrap_or_default();
        let command = text("cmdline");
        let about = [command.as_str(), &text("environ"), &cwd.to_string_lossy()].concat();
        if pid != std::process::id() && !command.is_empty() && about.contains(needle) {
            found.push(format!("{pid} {command}"));
        }
    }
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path()).collect()
}

/// Waits until neither a process nor a file is left, and says what is.
fn assert_nothing_left(dir: &Path, when: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (processes, files) = (processes(dir), entries(dir));
        if processes.is_empty() && files.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "killed {when}: left {processes:?} and {files:?}");
        sleep(Duration::from_millis(20));
    }
}

fn helper_command(binary: &Path, role: &str, dir: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["--exact", "embedded::helper", "--nocapture", "--test-threads=1"])
        .env(HELPER, role)
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn spawn_helper(role: &str, dir: &Path) -> Child {
    helper_command(&std::env::current_exe().unwrap(), role, dir).spawn().unwrap()
}

/// What the helper says after `said: `, while it goes on.
fn said(child: &mut Child) -> String {
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut lines = out.lines().map_while(Result::ok);
    lines.find_map(|line| Some(line.split_once("said: ")?.1.to_owned())).expect("the helper says something")
}

/// The same of a helper that ends by itself, and that it ends well. That this returns at all shows that a server it
/// left running does not hold its output open.
fn said_in_the_end(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    text.lines()
        .find_map(|line| Some(line.split_once("said: ")?.1.to_owned()))
        .expect("the helper says something")
}

/// A persistent server that a failing test does not leave behind.
struct Kept(Persistent);

impl std::ops::Deref for Kept {
    type Target = Persistent;

    fn deref(&self) -> &Persistent {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let socket_dir = self.0.endpoint().unwrap().socket_dir().to_owned();
        self.0.stop().unwrap();
        if socket_dir.exists() {
            fs::remove_dir_all(socket_dir).unwrap();
        }
    }
}

/// Not a test: what the other tests run in another process. The directory is this process's TMPDIR.
#[test]
fn helper() {
    let Ok(role) = std::env::var(HELPER) else { return };
    let persistent = Persistent::at(std::env::temp_dir().join("server"));
    match role.as_str() {
        "ephemeral" => {
            let server = Ephemeral::start(&request()).unwrap();
            println!("said: {}", server.url());
            sleep(Duration::from_secs(60));
        }
        "panic" => {
            let _server = Ephemeral::start(&request()).unwrap();
            panic!("as intended");
        }
        "persistent" => println!("said: {}", persistent.start(&request()).unwrap().pid),
        "both" => {
            let user = "select current_user || ' ' || current_database()";
            let ephemeral = Ephemeral::start(&request()).unwrap();
            let first = query(&ephemeral.options(), user).unwrap();
            persistent.start(&request()).unwrap();
            let second = query(&persistent.options().unwrap(), user).unwrap();
            assert!(persistent.stop().unwrap());
            println!("said: {first}, {second}");
        }
        other => panic!("unknown role {other}"),
    }
}

#[test]
fn an_ephemeral_server_serves_and_leaves_nothing() {
    let begin = Instant::now();
    let server = Ephemeral::start(&request()).unwrap();
    println!("ready after {:?}, PostgreSQL {}", begin.elapsed(), server.major());
    let dir = server.dir().to_owned();
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);

    let facts = "select concat_ws(' ', current_user, current_database(), current_setting('server_encoding'), \
                 '[' || current_setting('listen_addresses') || ']', current_setting('fsync'), upper('é'))";
    let url: PgConnectOptions = server.url().parse().unwrap();
    for options in [server.options(), url] {
        assert_eq!(query(&options, facts).unwrap(), "postgres tenancy UTF8 [] off É");
    }
    // psql, where there is one, takes the same URL.
    if let Ok(psql) = Command::new("psql").args([&server.url(), "-XAtc", "select 42"]).output() {
        assert_eq!(String::from_utf8_lossy(&psql.stdout).trim(), "42", "{psql:?}");
    }

    let begin = Instant::now();
    drop(server);
    assert!(begin.elapsed() < Duration::from_secs(2), "dropping took {:?}", begin.elapsed());
    assert!(!dir.exists());
    assert_eq!(processes(&dir), Vec::<String>::new());
}

#[test]
fn a_role_without_the_right_password_is_kept_out() {
    let server = Ephemeral::start(&request()).unwrap();
    query(&server.options(), "with made as (select 1) select 'x' from made").unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut connection = server.options().connect().await.unwrap();
        sqlx::query("create role app login password 'right'").execute(&mut connection).await.unwrap();
    });
    let login = |password: &str| {
        query(&server.options().username("app").password(password), "select current_user::text")
    };
    assert_eq!(login("right").unwrap(), "app");
    assert!(login("wrong").is_err());
}

#[test]
fn an_ephemeral_server_goes_when_its_process_is_killed() {
    // Before initdb, during it, about when the server starts, and (none) when it runs.
    for delay in [Some(30), Some(350), Some(900), None] {
        let dir = scratch();
        let mut child = spawn_helper("ephemeral", dir.path());
        match delay {
            Some(delay) => sleep(Duration::from_millis(delay)),
            None => {
                let url = said(&mut child);
                assert_eq!(query(&url.parse().unwrap(), "select 'up'").unwrap(), "up");
                assert!(!processes(dir.path()).is_empty() && !entries(dir.path()).is_empty());
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_nothing_left(dir.path(), &format!("after {delay:?} ms"));
    }
}

#[test]
fn an_ephemeral_server_goes_on_panic() {
    let dir = scratch();
    let status = spawn_helper("panic", dir.path()).wait().unwrap();
    assert!(!status.success());
    assert!(entries(dir.path()).is_empty(), "the panicking process itself cleans up");
}

#[test]
fn two_processes_share_one_persistent_server() {
    let dir = scratch();
    // What a killed initdb left goes, and is never taken for a cluster.
    fs::create_dir_all(dir.path().join("server/cluster.init-dead/base")).unwrap();
    fs::set_permissions(dir.path().join("server"), Permissions::from_mode(0o711)).unwrap();
    let server = Kept(Persistent::at(dir.path().join("server")));
    assert!(!server.stop().unwrap(), "nothing runs yet");
    let status = server.status().unwrap();
    assert_eq!((status.running, status.pid, status.major), (false, None, None));
    if Command::new("id").arg("-u").output().unwrap().stdout != b"0\n" {
        fs::set_permissions(dir.path().join("server"), Permissions::from_mode(0o700)).unwrap();
    }

    let children: Vec<_> = (0..3).map(|_| spawn_helper("persistent", dir.path())).collect();
    let pids: Vec<_> = children.into_iter().map(said_in_the_end).collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    let status = server.status().unwrap();
    assert_eq!((status.running, status.pid.unwrap().to_string()), (true, pids[0].clone()));
    assert!(status.started_at.is_some());
    assert!(!dir.path().join("server/cluster.init-dead").exists());
    assert_eq!(query(&server.options().unwrap(), "select current_setting('fsync')").unwrap(), "on");

    let again = server.start(&request()).unwrap();
    assert!(!again.fresh && again.pid.to_string() == pids[0]);
    assert!(server.stop().unwrap());
    assert!(!server.stop().unwrap());
    assert_eq!(processes(&dir.path().join("server")), Vec::<String>::new());
}

#[test]
fn a_persistent_server_survives_what_happens_to_it() {
    let dir = scratch();
    // Longer than a socket's path may be.
    let server = Kept(Persistent::at(dir.path().join("long".repeat(25))));
    let first = server.start(&request()).unwrap();
    assert!(first.fresh);
    query(&server.options().unwrap(), "select set_config('x.y', 'z', false)").unwrap();

    // Crashed: the next start recovers.
    assert!(
        Command::new("sh").args(["-c", &format!("kill -KILL {}", first.pid)]).status().unwrap().success()
    );
    while server.status().unwrap().pid.is_some() {
        sleep(Duration::from_millis(5));
    }
    let second = server.start(&request()).unwrap();
    assert!(second.fresh && second.pid != first.pid);
    assert_eq!(query(&server.url().unwrap().parse().unwrap(), "select 'up'").unwrap(), "up");

    // Another major than the cluster's is refused, running or not.
    let other = Request { major: Some(second.major + 1), ..request() };
    for _ in 0..2 {
        let error = server.start(&other).unwrap_err();
        assert!(matches!(error, Error::OtherMajor { have, .. } if have == second.major), "{error}");
        server.stop().unwrap();
    }
    // So are binaries that cannot be found, with the reason and the install command.
    let empty = scratch();
    let nowhere = Request { bin_dir: Some(empty.path().to_owned()), major: None };
    let error = server.start(&nowhere).unwrap_err().to_string();
    assert!(error.contains(&format!("needs PostgreSQL {}", second.major)), "{error}");
    assert!(error.contains("initdb, pg_ctl, postgres missing") && error.contains("to install"), "{error}");

    // A reboot gave the old process id to a stranger of the same user; both lock files still name it.
    let data = server.status().unwrap().data_dir;
    let owner = fs::metadata(&data).unwrap();
    let mut stranger = Command::new("sleep");
    stranger.arg("60").current_dir("/").uid(owner.uid()).gid(owner.gid());
    let mut stranger = stranger.spawn().unwrap();
    let lock = format!("{}\n{}\n1700000000\n5432\n/\n\n1 2\nready   \n", stranger.id(), data.display());
    for file in [data.join("postmaster.pid"), server.status().unwrap().socket_dir.join(".s.PGSQL.5432.lock")]
    {
        fs::write(&file, &lock).unwrap();
        std::os::unix::fs::chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }
    assert!(!server.status().unwrap().running && !server.stop().unwrap());
    assert!(server.start(&request()).unwrap().fresh);
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();

    let socket_dir = server.status().unwrap().socket_dir;
    assert!(socket_dir.starts_with("/tmp") && !socket_dir.starts_with(dir.path()));
    assert!(server.stop().unwrap());

    // Where somebody else could get into the socket's directory, nothing is started in it.
    fs::set_permissions(&socket_dir, Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(server.start(&request()).unwrap_err(), Error::SocketDirTaken { .. }));
}

#[test]
fn a_directory_that_others_can_write_to_is_not_used() {
    let open = scratch();
    let data = open.path().join("data");
    fs::create_dir(&data).unwrap();
    let stranger = |mode| {
        fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
        let server = Persistent::at(data.clone());
        for error in [server.start(&request()).unwrap_err(), {
            fs::create_dir_all(data.join("cluster")).unwrap();
            let error = server.stop().unwrap_err();
            fs::remove_dir(data.join("cluster")).unwrap();
            error
        }] {
            assert!(matches!(error, Error::DirOpenToOthers { .. }), "{mode:o}: {error}");
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
    };
    stranger(0o777);
    stranger(0o1777);
    stranger(0o770);
    let refused = crate::common::run(crate::common::tenantctl().env("TENANTCTL_DATA_DIR", &data).args([
        "tenant",
        "list",
        "--embedded",
        "-o",
        "json",
    ]));
    assert_eq!(refused.expect(10).error()["code"], "refused");
    if fs::metadata(&data).unwrap().uid() == 0 {
        std::os::unix::fs::chown(&data, Some(12345), None).unwrap();
        stranger(0o700);
    }
    assert_eq!(entries(&data), Vec::<PathBuf>::new());
}

#[test]
fn a_persistent_start_that_is_killed_can_be_repeated() {
    // Characters that a shell, a configuration file or a URL would trip over.
    let prefix = "tt-it's 100% ";
    let dir = tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let server = Kept(Persistent::at(dir.path().join("server")));
    for delay in [30, 400, 900, 1300] {
        let mut child = spawn_helper("persistent", dir.path());
        sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    server.start(&request()).unwrap();
    assert_eq!(query(&server.url().unwrap().parse().unwrap(), "select 'up'").unwrap(), "up");
    assert_eq!(entries(&dir.path().join("server")).len(), 3, "only cluster, lock and run");
    assert!(server.stop().unwrap());
    assert_eq!(processes(&dir.path().join("server")), Vec::<String>::new());
}

#[test]
fn it_works_for_another_user_than_root() {
    let binary = std::env::current_exe().unwrap();
    let dir = scratch();
    let (uid, gid) = match Command::new("id").args(["-u", "nobody"]).output() {
        Ok(id) if Command::new("id").arg("-u").output().unwrap().stdout == b"0\n" => {
            let number = String::from_utf8_lossy(&id.stdout).trim().parse().unwrap();
            (number, number)
        }
        _ => return, // Every other test here runs as such a user already.
    };
    let readable = scratch();
    let copy = readable.path().join("tests");
    fs::copy(binary, &copy).unwrap();
    let output = helper_command(&copy, "both", dir.path())
        .uid(uid)
        .gid(gid)
        .current_dir("/")
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("said: postgres tenancy, postgres tenancy"), "{output:?}");
    assert_eq!(fs::metadata(dir.path().join("server/cluster")).unwrap().uid(), uid);
}

#[test]
fn without_binaries_the_error_says_where_was_searched_and_what_to_install() {
    let root = scratch();
    let machine = |os: &str| Machine {
        path: Some(root.path().join("usr/bin").into()),
        root: root.path().into(),
        os: os.into(),
    };
    let find = |machine: &Machine, major| {
        Binaries::find_on(&Request { bin_dir: None, major }, machine).unwrap_err().to_string()
    };
    let script = |dir: &str, version: &str| {
        let dir = root.path().join(dir);
        fs::create_dir_all(&dir).unwrap();
        for name in ["initdb", "pg_ctl", "postgres"] {
            fs::write(dir.join(name), format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"))
                .unwrap();
            fs::set_permissions(dir.join(name), Permissions::from_mode(0o755)).unwrap();
        }
        dir
    };
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/os-release"), "ID=ubuntu\nID_LIKE=debian\n").unwrap();
    let error = find(&machine("linux"), None);
    assert!(
        error.contains("PostgreSQL 15 or newer") && error.contains("apt-get install postgresql"),
        "{error}"
    );
    assert!(find(&machine("linux"), Some(17)).contains("apt-get install postgresql-17"));
    assert!(find(&machine("macos"), None).contains("brew install postgresql@"));

    let old = script("usr/lib/postgresql/13/bin", "13.9");
    let error = find(&machine("linux"), None);
    assert!(error.contains(&format!("{}: version 13.9 is too old", old.display())), "{error}");

    // The newest wins, wherever it is; an exact major is taken as such.
    script("usr/bin", "15.2");
    script("usr/pgsql-17/bin", "17.1");
    let found = |major| {
        let found = Binaries::find_on(&Request { bin_dir: None, major }, &machine("linux")).unwrap();
        (found.major, found.version)
    };
    assert_eq!(found(None), (17, "17.1".into()));
    assert_eq!(found(Some(15)), (15, "15.2".into()));
}
