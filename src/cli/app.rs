//! What every verb has at hand: configuration, output, the way to the database and to the person at the terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use sqlx::postgres::PgConnectOptions;
use tenancy::config::{Config, Target};
use tenancy::db::embedded::{Ephemeral, Persistent};
use tenancy::db::{self, Session, Transaction};
use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::TenantRef;
use tenancy::{Error, Result};

use crate::output::{Notes, Output};

/// How long to wait for a server to answer, unless `PGCONNECT_TIMEOUT` says otherwise.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// `--dry-run`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct DryRun {
    /// Do it for real, but roll it back and say what would have happened
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl DryRun {
    /// A note on what was done, or would have been.
    pub(crate) fn word(self, done: &str, would: &str) -> String {
        if self.dry_run { format!("would {would}") } else { done.to_owned() }
    }
}

/// `--yes`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Confirmation {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Name what is to be destroyed, where the profile is protected
    #[arg(long, value_name = "SLUG")]
    pub(crate) confirm: Option<String>,
}

pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) output: Output,
    pub(crate) notes: Notes,
    input: bool,
    ephemeral: Option<Ephemeral>,
}

impl App {
    pub(crate) fn new(config: Config, output: Output, notes: Notes, input: bool) -> Self {
        Self { config, output, notes, input, ephemeral: None }
    }

    /// Limits from this process's environment.
    pub(crate) fn environment(&self) -> EnvironmentLimits {
        EnvironmentLimits::from_variables(std::env::vars())
    }

    /// The tenant that an argument names.
    pub(crate) fn tenant(&self, text: &str) -> Result<TenantRef> {
        TenantRef::parse(text, self.config.base_domain.value.as_deref())
    }

    /// The private server of this machine's user.
    pub(crate) fn persistent(&self) -> Result<Persistent> {
        Ok(Persistent::at(match &self.config.data_dir.value {
            Some(dir) => dir.clone(),
            None => Persistent::default_dir()?,
        }))
    }

    /// Where the database is; starts a private server where that is what was asked for.
    pub(crate) fn options(&mut self) -> Result<PgConnectOptions> {
        let Some(target) = &self.config.target else { return Err(Error::NoDatabase) };
        match &target.value {
            Target::Url(url) => db::parse_url(url.expose_secret()),
            Target::Libpq => Ok(PgConnectOptions::new()),
            Target::Embedded => {
                let server = self.persistent()?;
                server.start(&self.config.server_request())?;
                Ok(server.options()?)
            }
            Target::Ephemeral => match &self.ephemeral {
                Some(server) => Ok(server.options()),
                None => {
                    let server = Ephemeral::start(&self.config.server_request())?;
                    Ok(self.ephemeral.insert(server).options())
                }
            },
        }
    }

    /// A session with the database as it is.
    pub(crate) async fn connect(&mut self) -> anyhow::Result<Session> {
        let options = self.options()?;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let timeout = std::env::var("PGCONNECT_TIMEOUT")
            .ok()
            .and_then(|seconds| seconds.parse().ok())
            .map_or(CONNECT_TIMEOUT, Duration::from_secs);
        let connection = db::connect(options, timeout)
            .await
            .with_context(|| format!("cannot connect to PostgreSQL at {host}"))?;
        let mut session = Session::new(connection);
        session.statement_timeout = self.config.statement_timeout.value;
        session.lock_timeout = self.config.lock_timeout.value;
        session.role_prefix.clone_from(&self.config.role_prefix.value);
        Ok(session)
    }

    /// A session with a control plane. A private server for one command gets its control plane here.
    pub(crate) async fn session(&mut self) -> anyhow::Result<Session> {
        let fresh = self.ephemeral.is_none();
        let mut session = self.connect().await?;
        if fresh && self.ephemeral.is_some() {
            let prefix = session.role_prefix.clone();
            let mut transaction = session.begin().await?;
            db::migrate(&mut transaction, &prefix).await?;
            transaction.commit().await?;
        }
        Ok(session)
    }

    /// Runs a change in a transaction of the control plane, and rolls it back where it is a dry run.
    pub(crate) async fn write<T>(
        &mut self,
        dry_run: DryRun,
        change: impl AsyncFnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> anyhow::Result<T> {
        let mut session = self.session().await?;
        let mut transaction = session.begin_as_owner().await?;
        let value = change(&mut transaction).await?;
        if dry_run.dry_run {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        Ok(value)
    }

    /// Runs a look at the control plane.
    pub(crate) async fn read<T>(
        &mut self,
        look: impl AsyncFnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> anyhow::Result<T> {
        self.write(DryRun { dry_run: true }, look).await
    }

    /// Whether somebody is there to answer.
    pub(crate) fn interactive(&self) -> bool {
        self.input && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks whether to go on with a destruction, unless that was said already.
    pub(crate) async fn confirm(&self, name: &str, what: &str, said: &Confirmation) -> anyhow::Result<()> {
        if let Some(confirmed) = &said.confirm {
            return if confirmed == name {
                Ok(())
            } else {
                Err(Error::refused(
                    format!("--confirm says {confirmed:?}, but this is {name:?}"),
                    format!("pass --confirm {name}"),
                )
                .into())
            };
        }
        if self.config.protected {
            return Err(Error::refused(
                format!("this profile is protected: {what} has to be confirmed by name"),
                format!("pass --confirm {name}"),
            )
            .into());
        }
        if said.yes {
            return Ok(());
        }
        if !self.interactive() {
            return Err(Error::refused(
                format!("{what} needs consent, and nobody is there to ask"),
                "pass --yes",
            )
            .into());
        }
        let prompt = format!("{what}?");
        let agreed =
            prompted(move || dialoguer::Confirm::new().with_prompt(prompt).default(false).interact()).await?;
        if agreed { Ok(()) } else { Err(Error::Refused { what: "declined".into(), hint: None }.into()) }
    }

    /// An argument that was left out: asked for at a terminal, an error elsewhere.
    pub(crate) async fn ask(
        &self,
        field: &'static str,
        prompt: &str,
        default: Option<String>,
    ) -> anyhow::Result<String> {
        if !self.interactive() {
            return Err(missing(field));
        }
        let prompt = prompt.to_owned();
        prompted(move || {
            let mut input = dialoguer::Input::<String>::new().with_prompt(prompt);
            if let Some(default) = default {
                input = input.allow_empty(default.is_empty()).default(default);
            }
            input.interact_text()
        })
        .await
    }

    /// A choice that was left out: offered at a terminal, an error elsewhere.
    pub(crate) async fn choose(
        &self,
        prompt: &str,
        choices: &[String],
        default: usize,
    ) -> anyhow::Result<usize> {
        let (prompt, choices) = (prompt.to_owned(), choices.to_vec());
        prompted(move || {
            dialoguer::Select::new().with_prompt(prompt).items(&choices).default(default).interact()
        })
        .await
    }
}

/// A required argument that nobody gave.
pub(crate) fn missing(field: &'static str) -> anyhow::Error {
    Error::Invalid {
        field,
        value: String::new(),
        reason: "it is required".into(),
        hint: Some("see --help; at a terminal it is asked for".into()),
    }
    .into()
}

/// Asks on a thread of its own, so that a signal is noticed while nobody answers.
async fn prompted<T: Send + 'static>(
    ask: impl FnOnce() -> dialoguer::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    match tokio::task::spawn_blocking(ask).await? {
        Ok(answer) => Ok(answer),
        Err(dialoguer::Error::IO(error)) => Err(error.into()),
    }
}
