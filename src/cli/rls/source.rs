//! `--schema` and `--migrations`: a private server that holds what the files make, for one verification.

use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;
use tenancy::config::{self, Setting, Target};
use tenancy::db::{self, Session};
use tenancy::rls::Report;
use tenancy::rls::source::{self, Applied, SqlFile};
use tenancy::{Error, Result};

use crate::cli::app::{App, CONNECT_TIMEOUT};

#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// Verify what these files make on a private server, in this order; no database is needed
    #[arg(long, value_name = "FILE", num_args = 1..)]
    schema: Vec<PathBuf>,
    /// Verify what the migrations of a directory make on a private server (sqlx, Flyway, Supabase, Rails, numbered files)
    #[arg(long, value_name = "DIR")]
    migrations: Option<PathBuf>,
}

impl Source {
    /// Applies the files to a private server, if there are any, and gives the way to it. `scoped` says whether the
    /// application role is named by somebody, or must be by a control plane.
    pub(super) async fn make(&self, app: &mut App, scoped: bool) -> anyhow::Result<Option<PgConnectOptions>> {
        if self.schema.is_empty() && self.migrations.is_none() {
            return Ok(None);
        }
        refuse_database(app)?;
        let (files, what) = self.read()?;
        source::check(&files)?;
        app.config.target = Some(Setting { value: Target::Ephemeral, source: config::Source::Flag });
        let server = app.options()?;
        let bar = app.notes.progress("applying files");
        let prefix = &app.config.role_prefix.value;
        let Applied { options, statements, notes } =
            source::apply(&server, &files, prefix, &|done, of| bar.set(done as u64, of as u64)).await?;
        drop(bar);
        app.notes.note(&format!("applied {statements} statements from {what} to a private server"));
        for note in notes {
            app.notes.note(&format!("note: {note}"));
        }
        if !scoped {
            require_control_plane(&options, prefix).await?;
        }
        Ok(Some(options))
    }

    fn read(&self) -> Result<(Vec<SqlFile>, String)> {
        let mut files = source::schema_files(&self.schema)?;
        let count = |files: usize| if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        let Some(dir) = &self.migrations else {
            let what = count(files.len());
            return Ok((files, what));
        };
        let (style, more) = source::migrations(dir)?;
        files.extend(more);
        let what = format!("{} ({})", count(files.len()), style.as_str());
        Ok((files, what))
    }
}

/// A database that is named on the command line would not be looked at.
fn refuse_database(app: &App) -> Result<()> {
    let target = app.config.target.as_ref();
    let named = target.is_some_and(|target| {
        target.source == config::Source::Flag && !matches!(target.value, Target::Ephemeral)
    });
    let profile = app.config.profile.as_ref().is_some_and(|profile| profile.source == config::Source::Flag);
    if named || profile {
        return Err(Error::Configuration {
            what: "--schema and --migrations verify files, and a database is named, too".into(),
            hint: Some("leave out --url, --profile or --embedded".into()),
        });
    }
    Ok(())
}

/// A verification of nothing proves nothing, and must not pass.
pub(super) fn refuse_nothing(report: &Report, contract: Option<&Path>, columns: &[String]) -> Result<()> {
    if report.summary.tables > 0 {
        return Ok(());
    }
    Err(match contract {
        Some(file) => Error::Configuration {
            what: format!("{}: no table that the files make has the tenant column", file.display()),
            hint: Some("correct tenant_column, or name the tables under tables:".into()),
        },
        None => Error::Invalid {
            field: "tenant column",
            value: columns.join(", "),
            reason: "no table that the files make has it".into(),
            hint: Some("name it with --tenant-column COLUMN, or give an isolation contract".into()),
        },
    })
}

/// Without a contract or a role on the command line, only a control plane says who must be confined.
async fn require_control_plane(options: &PgConnectOptions, prefix: &str) -> Result<()> {
    let mut session = Session::new(db::connect(options.clone(), CONNECT_TIMEOUT).await?);
    let found: bool = sqlx::query_scalar("SELECT pg_catalog.to_regproc('tenancy.role_name') IS NOT NULL")
        .fetch_one(session.connection())
        .await?;
    if !found {
        return Err(Error::Invalid {
            field: "role",
            value: String::new(),
            reason: "the files make no control plane that would name the application role".into(),
            hint: Some(
                "pass --role ROLE (and --tenant-column COLUMN where it is not tenant_id), or --contract FILE"
                    .into(),
            ),
        });
    }
    session.role_prefix = prefix.to_owned();
    session.begin_checked().await?.rollback().await
}
