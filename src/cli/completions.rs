//! `tenantctl completions`, and what the shells ask back.

use std::ffi::OsStr;
use std::time::Duration;

use clap::Args as ClapArgs;
use clap_complete::CompletionCandidate;
use clap_complete::env::Shells;
use secrecy::SecretString;
use serde::Serialize;
use tenancy::config::{Config, Flags, Inputs, Target, user_file};
use tenancy::db::Session;
use tenancy::{Error, tenant};

use super::app::App;
use crate::output::{Notes, Output, Printable, Report, View};

/// The shells that there are scripts for, with the names of the files under `completions/`.
const SHELLS: [(&str, &str); 5] = [
    ("bash", "tenantctl.bash"),
    ("zsh", "_tenantctl"),
    ("fish", "tenantctl.fish"),
    ("powershell", "_tenantctl.ps1"),
    ("elvish", "tenantctl.elv"),
];

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// bash, zsh, fish, powershell or elvish
    #[arg(value_parser = SHELLS.map(|(shell, _)| shell))]
    shell: String,
}

#[derive(Serialize)]
struct Script {
    shell: String,
    script: String,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<Box<dyn Printable>> {
        let shells = Shells::builtins();
        let shell = shells
            .completer(&self.shell)
            .ok_or_else(|| Error::invalid("shell", self.shell.clone(), "there is no script for it"))?;
        let mut script = Vec::new();
        shell.write_registration("COMPLETE", "tenantctl", "tenantctl", "tenantctl", &mut script)?;
        Ok(Box::new(Script { shell: self.shell, script: String::from_utf8(script)? }))
    }
}

impl Report for Script {
    fn view(&self) -> View {
        View::Text(self.script.clone())
    }

    fn ids(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The slugs that complete an argument. A shell waits for this: where no database answers at once there are none, and
/// nothing is said about it.
pub(crate) fn tenant_slugs(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(prefix) = current.to_str() else { return Vec::new() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return Vec::new(),
    };
    let answer = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), slugs()).await });
    let slugs = answer.ok().and_then(Result::ok).unwrap_or_default();
    slugs.into_iter().filter(|slug| slug.starts_with(prefix)).map(CompletionCandidate::new).collect()
}

async fn slugs() -> anyhow::Result<Vec<String>> {
    let config = Config::load(Inputs {
        flags: flags(std::env::args().skip_while(|word| word != "--")),
        variable: &|name| std::env::var(name).ok(),
        directory: std::env::current_dir()?,
        user_file: user_file(),
    })?;
    if matches!(config.target.as_ref().map(|target| &target.value), Some(Target::Ephemeral)) {
        return Ok(Vec::new());
    }
    let notes = Notes { quiet: true, colour: false, json: false };
    let output = Output { format: crate::output::Format::Table, quiet: true, colour: false };
    let mut app = App::new(config, output, notes, false);
    if matches!(app.config.target.as_ref().map(|target| &target.value), Some(Target::Embedded))
        && !app.persistent()?.status()?.running
    {
        return Ok(Vec::new());
    }
    let mut session: Session = app.connect().await?;
    let mut transaction = session.begin_as_owner().await?;
    Ok(tenant::slugs(&mut transaction).await?)
}

/// The flags on the line under completion that say which database it is about.
fn flags(words: impl Iterator<Item = String>) -> Flags {
    let mut flags = Flags::default();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let (name, mut value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if matches!(name.as_str(), "--url" | "--profile" | "--config") && value.is_none() {
            value = words.next();
        }
        match name.as_str() {
            "--url" => flags.url = value.map(SecretString::from),
            "--profile" => flags.profile = value,
            "--config" => flags.config = value.map(Into::into),
            "--embedded" => flags.embedded = true,
            "--ephemeral" => flags.ephemeral = true,
            _ => {}
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_which_database() {
        let words = ["--", "tenantctl", "--profile", "prod", "tenant", "show", "--config=x.yaml"];
        let flags = flags(words.into_iter().map(str::to_owned));
        assert_eq!(flags.profile.as_deref(), Some("prod"));
        assert_eq!(flags.config, Some("x.yaml".into()));
    }

    #[test]
    fn the_scripts_in_the_repository_are_the_ones_that_are_printed() {
        for (shell, file) in SHELLS {
            let script = Args { shell: shell.into() }.run().unwrap();
            let View::Text(script) = script.view() else { panic!("a script is text") };
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(file);
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(kept, script, "{} is stale: run `make generate`", path.display());
        }
    }
}
