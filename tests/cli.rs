//! The command line as scripts and shells see it: formats, streams, exit codes, signals, completion.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::common::{Database, Run, run, tenantctl};

mod terminal;

async fn two_tenants() -> Database {
    let db = Database::with_acme("starter").await;
    db.tenantctl(&["tenant", "create", "Beta, \"Inc\"", "--slug", "beta", "--contact-email", "b@beta.org"])
        .expect(0);
    db.tenantctl(&["tenant", "update", "beta", "--set", "branding.color=red"]).expect(0);
    db
}

#[tokio::test]
async fn one_resource_is_an_object_and_many_are_an_array() {
    let db = two_tenants().await;
    let list = db.json(&["tenant", "list"]);
    assert!(list.is_array());
    let show = db.json(&["tenant", "show", "beta"]);
    assert!(show.is_object());
    assert_eq!(list[1], show);

    let print = |format: &str, arguments: &[&str]| {
        let run = db.tenantctl(&[arguments, &["-o", format]].concat()).expect(0);
        assert_eq!(run.stderr, "");
        run.stdout
    };
    let yaml: Value = serde_yaml::from_str(&print("yaml", &["tenant", "list"])).unwrap();
    assert_eq!(yaml, list);
    let yaml: Value = serde_yaml::from_str(&print("yaml", &["tenant", "show", "beta"])).unwrap();
    assert_eq!(yaml, show);
    let lines = print("ndjson", &["tenant", "list"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!(lines), list);
    assert_eq!(
        serde_json::from_str::<Value>(print("ndjson", &["tenant", "show", "beta"]).trim()).unwrap(),
        show
    );

    let csv = print("csv", &["tenant", "list"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3);
    let fields: Vec<&String> = show.as_object().unwrap().keys().collect();
    assert_eq!(lines[0].split(',').collect::<Vec<_>>(), fields);
    assert!(
        lines[2].contains(
            "beta,\"Beta, \"\"Inc\"\"\",active,free,b@beta.org,,,\"{\"\"color\"\":\"\"red\"\"}\",{}"
        ),
        "{csv}"
    );
    assert_eq!(print("csv", &["tenant", "list", "--filter", "nothing"]), "");
    assert_eq!(print("ndjson", &["tenant", "list", "--filter", "nothing"]), "");

    // In a pipe a table is plain columns, with times that a program reads.
    let table = print("table", &["tenant", "list"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["SLUG", "NAME", "STATUS", "PLAN", "USERS", "CREATED"]
    );
    assert!(lines[1].starts_with("acme  ") && lines[1].ends_with('Z'), "{table}");
    assert!(!table.contains(['│', '┌', '\u{1b}']), "{table}");
    assert_eq!(table, db.tenantctl(&["tenant", "list"]).stdout, "it is the default");

    for (arguments, ids) in [
        (&["tenant", "list"][..], "acme\nbeta\n"),
        (&["tenant", "show", "beta"], "beta\n"),
        (&["tenant", "create", "Gamma"], "gamma\n"),
        (&["plan", "show", "free"], "free\n"),
        (&["usage", "stats", "acme"], "events\nparticipants\nstorage\nadmins\n"),
    ] {
        let quiet = db.tenantctl(&[arguments, &["-q"]].concat()).expect(0);
        assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), (ids, ""), "{arguments:?}");
    }
    db.tenantctl(&["tenant", "list", "-o", "xml"]).expect(2);
}

#[tokio::test]
async fn data_goes_to_standard_output_and_everything_else_to_standard_error() {
    let db = Database::migrated().await;
    let created = db.tenantctl(&["tenant", "create", "Acme", "-o", "json", "-vv"]).expect(0);
    assert_eq!(created.json()["outcome"], "created", "the log does not mix with it");
    assert!(created.stderr.contains("created tenant acme on plan free"), "{created:?}");
    let missing = db.tenantctl(&["tenant", "show", "nobody"]).expect(3);
    assert_eq!(missing.stdout, "");
    assert_eq!(
        missing.stderr,
        "error: tenant \"nobody\" not found\nhint: `tenantctl tenant list` shows what there is\n"
    );
    for format in ["json", "ndjson"] {
        let missing = db.tenantctl(&["tenant", "show", "acmee", "-o", format]).expect(3);
        assert_eq!(missing.stdout, "");
        assert_eq!(
            missing.error(),
            json!({ "code": "not_found", "message": "tenant \"acmee\" not found", "hint": "did you mean \"acme\"?",
                    "details": { "kind": "tenant", "name": "acmee", "suggestion": "acme" } })
        );
        assert_eq!(missing.stderr.lines().count(), 1);
    }
    let cause =
        run(tenantctl().args(["tenant", "list", "--url", "postgres:///x?host=/nonexistent"])).expect(7);
    let lines: Vec<&str> = cause.stderr.lines().collect();
    assert!(lines[0].starts_with("error: cannot connect to PostgreSQL at /nonexistent"), "{cause:?}");
    assert!(lines[1].starts_with("caused by: ") && lines[2].starts_with("hint: "), "{cause:?}");
}

#[tokio::test]
async fn wrong_usage_exits_with_two_in_both_forms() {
    for arguments in [
        &["tenant"][..],
        &["tenant", "frobnicate"],
        &["tenant", "show"],
        &["tenant", "list", "--frobnicate"],
        &["--output", "xml", "tenant", "list"],
        &["tenant", "list", "--embedded", "--ephemeral"],
    ] {
        let wrong = run(tenantctl().args(arguments)).expect(2);
        assert_eq!(wrong.stdout, "", "{arguments:?}");
        assert!(wrong.stderr.contains("Usage:") || wrong.stderr.contains("error:"), "{wrong:?}");
    }
    for format in [&["-o", "json"][..], &["-ojson"], &["--output=json"], &["--output", "ndjson"]] {
        let wrong = run(tenantctl().args(["tenant", "show"]).args(format)).expect(2);
        let error = wrong.error();
        assert_eq!((wrong.stdout.as_str(), &error["code"]), ("", &json!("usage")), "{format:?}");
        assert!(error["details"]["text"].as_str().unwrap().contains("<TENANT>"), "{error}");
    }
    let typo = run(tenantctl().args(["tennant", "list"])).expect(2);
    assert!(typo.stderr.contains("'tenant'"), "{typo:?}");
}

#[test]
fn help_and_version_need_no_database() {
    let version = run(tenantctl().arg("--version")).expect(0);
    assert_eq!(version.stdout, format!("tenantctl {}\n", env!("CARGO_PKG_VERSION")));
    let codes = run(tenantctl().args(["help", "exit-codes", "-o", "json"])).expect(0).json();
    let codes: Vec<i64> = codes.as_array().unwrap().iter().map(|row| row["code"].as_i64().unwrap()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130]);
    let table = run(tenantctl().args(["help", "exit-codes"])).expect(0).stdout;
    assert!(table.starts_with("CODE") && table.contains("a plan limit or a feature refused it"), "{table}");
    for arguments in
        [&["--help"][..], &["tenant", "create", "--help"], &["help", "tenant", "create"], &["help"]]
    {
        let help = run(tenantctl().args(arguments)).expect(0);
        assert!(help.stdout.contains("Usage: tenantctl"), "{arguments:?}: {help:?}");
        assert_eq!(help.stderr, "");
    }
    run(tenantctl().args(["help", "frobnicate"])).expect(3);
    // Nothing at all is a mistake, and the help is the answer to it.
    assert!(run(&mut tenantctl()).expect(2).stderr.contains("Usage: tenantctl"));
}

#[test]
fn errors_are_coloured_where_that_is_wanted() {
    let error = |variables: &[(&str, &str)], flag: &str| {
        run(tenantctl().args(["tenant", "list", flag]).envs(variables.iter().copied())).expect(7).stderr
    };
    for (variables, flag, coloured) in [
        (&[][..], "--color=auto", false),
        (&[], "--color=always", true),
        (&[("NO_COLOR", "1")], "--color=always", true),
        (&[("CLICOLOR_FORCE", "1")], "--color=auto", true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], "--color=auto", false),
        (&[("CLICOLOR_FORCE", "1")], "--color=never", false),
    ] {
        assert_eq!(error(variables, flag).contains('\u{1b}'), coloured, "{variables:?} {flag}");
    }
}

#[tokio::test]
async fn a_reader_that_has_enough_is_nobodys_failure() {
    let db = Database::migrated().await;
    for arguments in
        [&["plan", "list", "-o", "json"][..], &["help", "exit-codes"], &["--help"], &["completions", "bash"]]
    {
        let mut child = piped(db.command().args(arguments));
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{arguments:?}");
    }
    let shell = "set -o pipefail; \"$0\" plan list | head -n 0";
    let mut command = Command::new("bash");
    command.args(["-c", shell, env!("CARGO_BIN_EXE_tenantctl")]).env("TENANTCTL_URL", db.url());
    assert_eq!(run(&mut command).expect(0).stderr, "");
    // What was to be done is done all the same.
    let mut child = piped(db.command().args(["tenant", "create", "Acme"]));
    drop(child.stdout.take());
    child.wait().unwrap();
    assert_eq!(db.sql("SELECT slug FROM tenancy.tenants"), "acme");
    // Nor does a closed pipe hide what was found.
    db.sql("CREATE TABLE notes (tenant_id uuid NOT NULL); GRANT SELECT ON notes TO tenancy_app");
    let mut child = piped(db.command().args(["rls", "verify"]));
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

fn piped(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[tokio::test]
async fn an_interrupted_command_rolls_back_and_says_so() {
    let db = Database::with_acme("starter").await;
    db.tenantctl(&["usage", "track", "acme", "--metric", "events"]).expect(0);
    let before = db.dump();
    for signal in ["INT", "TERM", "HUP"] {
        let mut session = db.session().await;
        let mut holding = session.begin_as_owner().await.unwrap();
        sqlx::query("SELECT FROM tenancy.usage_counters FOR UPDATE").execute(&mut *holding).await.unwrap();
        let arguments = ["usage", "track", "acme", "--metric", "events", "--key", "k", "--lock-timeout", "0"];
        let child = piped(db.command().args(arguments));
        db.blocked(1).await;
        run(Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())])).expect(0);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert_eq!((output.stdout, output.stderr), (Vec::new(), b"error: interrupted\n".to_vec()));
        holding.rollback().await.unwrap();
    }
    db.quiet().await;
    assert_eq!(db.dump(), before);
}

#[test]
fn every_shell_has_a_completion_script() {
    for (shell, words) in [
        ("bash", "complete -o nospace"),
        ("zsh", "#compdef tenantctl"),
        ("fish", "complete --keep-order --exclusive --command tenantctl"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer[tenantctl]"),
    ] {
        let script = run(tenantctl().args(["completions", shell])).expect(0);
        assert!(script.stdout.contains(words) && script.stderr.is_empty(), "{shell}: {script:?}");
    }
    run(tenantctl().args(["completions", "tcsh"])).expect(2);
}

/// What bash is given for the last of these words.
fn completed(command: &mut Command, words: &[&str]) -> Vec<String> {
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_IFS", "\n")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    let Run { stdout, stderr, .. } = run(command.arg("--").args(words)).expect(0);
    assert_eq!(stderr, "");
    stdout.split('\n').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn slugs_complete_from_the_database() {
    let db = two_tenants().await;
    db.tenantctl(&["tenant", "create", "Beta Two"]).expect(0);
    db.tenantctl(&["tenant", "create", "Beta Gone"]).expect(0);
    db.tenantctl(&["tenant", "delete", "beta-gone", "--yes"]).expect(0);
    for verb in
        [["tenant", "show"], ["tenant", "delete"], ["user", "add"], ["user", "list"], ["usage", "track"]]
    {
        let words = ["tenantctl", verb[0], verb[1], "b"];
        assert_eq!(completed(&mut db.command(), &words), ["beta", "beta-two"], "{verb:?}");
    }
    let url = db.url();
    let words = ["tenantctl", "--url", &url, "tenant", "show", "ac"];
    assert_eq!(completed(&mut tenantctl(), &words), ["acme"], "the line itself names the database");
    assert_eq!(completed(&mut db.command(), &["tenantctl", "tenant", "sus"]), ["suspend"]);
    // Where there is no database there is nothing to complete, and nothing to say.
    let none = [""; 0];
    let words = ["tenantctl", "tenant", "show", "a"];
    assert_eq!(completed(&mut tenantctl(), &words), none);
    assert_eq!(completed(tenantctl().env("DATABASE_URL", "postgres:///x?host=/nonexistent"), &words), none);
    assert_eq!(completed(&mut Database::empty().await.command(), &words), none);
}

#[test]
fn the_demonstration_behaves() {
    let demo = run(crate::common::tenantctl().arg("demo")).expect(0);
    assert!(
        demo.stdout.contains("FAILED as it should: permissive-leak on public.submissions"),
        "{}",
        demo.stdout
    );
    assert!(demo.stdout.lines().count() <= 24, "it no longer fits a screen:\n{}", demo.stdout);
}
