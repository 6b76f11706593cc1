//! Every command of the README, in its order, on a private server of the test's own.

use std::collections::BTreeMap;
use std::process::Command;

use crate::common::{Run, root, run};

/// A command of a fenced block, with the exit code that a comment behind it promises.
struct Step {
    language: String,
    text: String,
    code: i32,
}

fn steps(markdown: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut language: Option<String> = None;
    let mut pending = String::new();
    for line in markdown.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            let whole = std::mem::take(&mut pending);
            if language.as_deref() == Some("sql") {
                steps.push(Step { language: "sql".into(), text: whole, code: 0 });
            }
            language = if language.is_none() { Some(fence.to_owned()) } else { None };
            continue;
        }
        match language.as_deref() {
            Some("sql") => pending.push_str(&format!("{line}\n")),
            Some("sh") => {
                pending.push_str(line);
                if line.ends_with('\\') {
                    pending.push('\n');
                    continue;
                }
                let text = std::mem::take(&mut pending);
                let code = text.split_once("# exit ").map_or(0, |(_, code)| code.trim().parse().unwrap());
                steps.push(Step { language: "sh".into(), text, code });
            }
            _ => {}
        }
    }
    steps
}

struct Shell {
    directory: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Shell {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::Builder::new().prefix("tr-").tempdir_in("/tmp").unwrap();
        // The server runs as another user where the tests run as root.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::symlink(root().join("examples"), directory.path().join("examples")).unwrap();
        let bin =
            std::path::Path::new(env!("CARGO_BIN_EXE_tenantctl")).parent().unwrap().display().to_string();
        let mut variables = BTreeMap::new();
        variables.insert("PATH".into(), format!("{bin}:{}", std::env::var("PATH").unwrap()));
        variables.insert("HOME".into(), directory.path().display().to_string());
        variables.insert("TENANTCTL_DATA_DIR".into(), directory.path().join("data").display().to_string());
        if let Ok(bin) = std::env::var("TENANTCTL_PG_BIN") {
            variables.insert("TENANTCTL_PG_BIN".into(), bin);
        }
        Self { directory, variables }
    }

    fn bash(&self, script: &str) -> Run {
        let mut command = Command::new("bash");
        command.env_clear().envs(&self.variables).current_dir(self.directory.path()).args(["-c", script]);
        run(&mut command)
    }

    /// Runs a step; variables that it sets are there for the next.
    fn step(&mut self, step: &Step) {
        if step.language == "sql" {
            let script =
                format!("psql \"$(tenantctl db status -q)\" -v ON_ERROR_STOP=1 <<'SQL'\n{}\nSQL", step.text);
            self.bash(&script).expect(0);
            return;
        }
        let assignment = step.text.strip_prefix("export ").unwrap_or(&step.text);
        let name = assignment.split('=').next().unwrap();
        if name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_') && !assignment.contains("\" ") {
            let is_prefix =
                step.text.split_whitespace().any(|word| word == "tenantctl") && !step.text.contains("$(");
            if !is_prefix {
                let value = self.bash(&format!("{}\nprintf %s \"${name}\"", step.text)).expect(0).stdout;
                self.variables.insert(name.into(), value);
                return;
            }
        }
        let run = self.bash(&step.text);
        assert_eq!(run.code, step.code, "{}\nstdout: {}\nstderr: {}", step.text, run.stdout, run.stderr);
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.bash("TENANTCTL_EMBEDDED=1 tenantctl db stop");
    }
}

#[test]
fn every_command_does_what_the_readme_says() {
    let markdown = std::fs::read_to_string(root().join("README.md")).unwrap();
    let steps = steps(&markdown);
    let commands = steps.iter().filter(|step| step.text.contains("tenantctl ")).count();
    assert!(commands > 25, "only {commands} commands were found");
    let mut shell = Shell::new();
    for step in &steps {
        shell.step(step);
    }
}

#[test]
fn the_first_screen_has_the_two_commands() {
    let markdown = std::fs::read_to_string(root().join("README.md")).unwrap();
    let screen: Vec<&str> = markdown.lines().take(28).collect();
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    for target in ["demo", "test"] {
        assert!(
            screen.contains(&format!("make {target}").as_str()),
            "make {target} is not on the first screen"
        );
        assert!(
            makefile.contains(&format!("\n{target}:\n\tscripts/prerequisites\n")),
            "{target} lacks its set-up"
        );
    }
}

/// The provisioning script that the tool was made for, twice: the second time nothing changes.
#[test]
fn provisioning_twice_changes_nothing() {
    const SCRIPT: &str = r#"
set -e
tenantctl db migrate -o json >&3
psql -q "$(tenantctl db status -o json | sed -n 's/^  "url": "\(.*\)",$/\1/p')" -f examples/hackops/schema.sql
tenantctl tenant create "Acme University" --slug acme-university --contact-email admin@acme.edu \
  --plan professional --organization-type university --website-url https://acme.edu --owner ada@acme.edu --if-not-exists -o json >&3
tenantctl user add acme-university grace@acme.edu --role admin --permission can_manage_events=true --if-not-exists -o json >&3
tenantctl usage track acme-university --metric events --amount 1 --key import-2026-11 -o json >&3
tenantctl rls setup -o json >&3
tenantctl rls verify -o json >&3
"#;
    let mut shell = Shell::new();
    shell.variables.insert("TENANTCTL_EMBEDDED".into(), "1".into());
    let outcomes = |shell: &Shell| -> Vec<String> {
        let run = shell.bash(&format!("exec 3>&1 1>&2\n{SCRIPT}")).expect(0);
        let values = serde_json::Deserializer::from_str(&run.stdout).into_iter::<serde_json::Value>();
        let values: Vec<serde_json::Value> = values.map(Result::unwrap).collect();
        let tables = values[4]["tables"].as_array().unwrap();
        assert!(values[5]["summary"]["passed"].as_bool().unwrap() && tables.len() >= 10, "{values:?}");
        let outcome = |value: &serde_json::Value| value["outcome"].as_str().unwrap().to_owned();
        values[..4].iter().chain(tables).map(outcome).collect()
    };
    let first = outcomes(&shell);
    assert_eq!(first[..4], ["created", "created", "created", "accepted"]);
    let dump = |shell: &Shell| {
        shell.bash("psql -qAt \"$(tenantctl db status -q)\" -c \"SELECT * FROM tenancy.tenants, tenancy.memberships, tenancy.usage_counters, tenancy.usage_events, tenancy.protected_tables\"").expect(0).stdout
    };
    let before = dump(&shell);
    let second = outcomes(&shell);
    assert_eq!(second[..4], ["unchanged", "unchanged", "unchanged", "duplicate"]);
    assert!(second[4..].iter().all(|outcome| outcome == "unchanged"), "{second:?}");
    assert_eq!(before, dump(&shell));
}
