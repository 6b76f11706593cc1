//! `tenantctl rls context key`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args as ClapArgs;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tenancy::Error;
use tenancy::context::{self, Signer};

use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Where to: a file that nobody else can read, or - for standard output
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Overwrite the file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Exported {
    /// Which key it is.
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The key itself, where standard output was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    word: String,
}

impl Args {
    pub(super) async fn run(self, app: &mut App) -> anyhow::Result<Exported> {
        let printed = self.out.as_os_str() == "-";
        if !printed && !self.force && fs::symlink_metadata(&self.out).is_ok() {
            return Err(taken(&self.out).into());
        }
        let key = app.write(self.dry_run, async |tx| context::signing_key(tx).await).await?;
        let id = key.expose_secret().parse::<Signer>()?.key_id().to_owned();
        let dry_run = self.dry_run.dry_run;
        if !printed && !dry_run {
            write(&self.out, &key, self.force)?;
        }
        Ok(Exported {
            id,
            file: (!printed).then(|| self.out.display().to_string()),
            key: (printed && !dry_run).then(|| key.expose_secret().to_owned()),
            dry_run,
            word: self.dry_run.word("wrote", "write"),
        })
    }
}

fn taken(file: &Path) -> Error {
    Error::Conflict {
        kind: "file",
        name: file.display().to_string(),
        reason: "already exists".into(),
        hint: Some("pass --force to overwrite it".into()),
    }
}

/// Writes a file that is whole or not there, and its owner's alone from the beginning.
fn write(file: &Path, key: &SecretString, force: bool) -> anyhow::Result<()> {
    let context = || format!("the key could not be written to {}", file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Temporary files have mode 0600.
    let mut pending =
        tempfile::Builder::new().prefix(".tenantctl-key-").tempfile_in(folder).with_context(context)?;
    writeln!(pending, "{}", key.expose_secret()).with_context(context)?;
    if force {
        pending.persist(file).map_err(|error| error.error).with_context(context)?;
        return Ok(());
    }
    match pending.persist_noclobber(file) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(taken(file).into()),
        Err(error) => Err(error.error).with_context(context),
    }
}

impl Report for Exported {
    fn view(&self) -> View {
        match (&self.key, &self.file) {
            (Some(key), _) => View::Text(format!("{key}\n")),
            (None, Some(file)) => View::Record(vec![("KEY", self.id.clone()), ("FILE", file.clone())]),
            (None, None) => View::Record(vec![("KEY", self.id.clone())]),
        }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.id.clone()]
    }

    fn notes(&self) -> Vec<String> {
        let file = self.file.as_deref().unwrap_or("standard output");
        vec![format!("{} the key to {file}: whoever has it can name any tenant", self.word)]
    }
}
