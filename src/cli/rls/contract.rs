//! `tenantctl rls contract`.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::rls::contract::init::{self, Guess, Known};
use tenancy::{Error, Outcome};

use crate::cli::app::{App, DryRun};
use crate::output::{Printable, Report, View};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Guess the contract of the platform in this database, and say why
    Init(Args),
}

impl Verb {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        Ok(match self {
            Self::Init(args) => Box::new(args.run(app).await?),
        })
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Write it to this file, and not to standard output (-)
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long, requires = "output_file")]
    force: bool,
    /// The column that holds the tenant [default: guessed]
    #[arg(long, value_name = "COLUMN")]
    tenant_column: Option<String>,
    /// A role that the application runs as (may be given more than once) [default: guessed]
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Guessed {
    #[serde(flatten)]
    guess: Guess,
    /// Whether nothing is left to ask.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    dry_run: DryRun,
}

impl Args {
    async fn run(self, app: &mut App) -> anyhow::Result<Guessed> {
        let file = self.output_file.filter(|file| file.as_os_str() != "-");
        if file.is_none() && self.dry_run.dry_run {
            return Err(Error::Invalid {
                field: "dry-run",
                value: String::new(),
                reason: "nothing is written".into(),
                hint: Some("name a file with --output-file".into()),
            }
            .into());
        }
        let mut session = app.connect().await?;
        let mut transaction = session.begin().await?;
        let known = Known { tenant_column: self.tenant_column, app_roles: self.role };
        let guess = init::guess(&mut transaction, &known).await?;
        transaction.rollback().await?;
        let text = guess.to_yaml()?;
        let outcome = match &file {
            Some(file) => Some(write(file, &text, self.force, self.dry_run)?),
            None => None,
        };
        Ok(Guessed {
            complete: guess.questions.is_empty(),
            guess,
            file: file.map(|file| file.display().to_string()),
            outcome,
            text,
            dry_run: self.dry_run,
        })
    }
}

/// Writes a file that is whole or not there.
fn write(file: &Path, text: &str, force: bool, dry_run: DryRun) -> anyhow::Result<Outcome> {
    let context = || format!("the contract could not be written to {}", file.display());
    // A link stays a link.
    let (target, before) = match fs::canonicalize(file) {
        Ok(target) => (target.clone(), Some(fs::read(&target).with_context(context)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (file.to_owned(), None),
        Err(error) => return Err(error).with_context(context),
    };
    let taken = || Error::Conflict {
        kind: "file",
        name: file.display().to_string(),
        reason: "already exists".into(),
        hint: Some("pass --force to overwrite it".into()),
    };
    match &before {
        Some(before) if before == text.as_bytes() => return Ok(Outcome::Unchanged),
        Some(_) if !force => return Err(taken().into()),
        _ => {}
    }
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut pending = tempfile::Builder::new()
        .prefix(".tenantctl-contract-")
        // As any other file: what the umask leaves of it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(context)?;
    pending.write_all(text.as_bytes()).with_context(context)?;
    let outcome = if before.is_some() { Outcome::Updated } else { Outcome::Created };
    if dry_run.dry_run {
        return Ok(outcome);
    }
    if force {
        pending.persist(&target).map_err(|error| error.error).with_context(context)?;
        return Ok(outcome);
    }
    match pending.persist_noclobber(&target) {
        Ok(_) => Ok(outcome),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(taken().into()),
        Err(error) => Err(error.error).with_context(context),
    }
}

impl Report for Guessed {
    fn view(&self) -> View {
        let Some(file) = &self.file else { return View::Text(self.text.clone()) };
        let contract = &self.guess.contract;
        View::Record(vec![
            ("file", file.clone()),
            ("tenant column", contract.tenant_column.join(", ")),
            ("tables with another", contract.tables.len().to_string()),
            ("schemas", contract.schemas.join(", ")),
            ("app roles", contract.app_roles.join(", ")),
            ("admin roles", contract.admin_roles.join(", ")),
            ("shared tables", contract.shared_tables.join(", ")),
            ("questions", self.guess.questions.len().to_string()),
        ])
    }

    fn ids(&self) -> Vec<String> {
        self.guess.contract.tenant_column.clone()
    }

    fn notes(&self) -> Vec<String> {
        let written = self.file.iter().zip(&self.outcome).map(|(file, outcome)| match outcome {
            Outcome::Unchanged => format!("{file} is unchanged"),
            Outcome::Created => self.dry_run.word(&format!("created {file}"), &format!("create {file}")),
            _ => self.dry_run.word(&format!("updated {file}"), &format!("update {file}")),
        });
        let questions = self.guess.questions.iter().map(|ask| format!("{}: {}", ask.key, ask.text));
        written.chain(questions).collect()
    }
}
