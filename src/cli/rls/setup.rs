//! `tenantctl rls setup`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::config::Source;
use tenancy::context::Mode;
use tenancy::rls::online::{self, Pace};
use tenancy::rls::setup::{self, NewTables, Protection, Setup};

use super::online_progress::tell;
use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only this table (may be given more than once) [default: every table with a tenant column]
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Declare a table as reference data that all tenants read (may be given more than once)
    #[arg(long, value_name = "TABLE")]
    shared: Vec<String>,
    /// Name of the tenant column (may be given more than once)
    #[arg(long, value_name = "COLUMN", default_value = "tenant_id")]
    tenant_column: Vec<String>,
    /// What becomes of tables with a tenant column that are created from now on [default: as before]
    #[arg(long, value_name = "MODE", value_enum)]
    on_new_table: Option<OnNewTable>,
    /// Also keys, views, default privileges and PUBLIC's rights, and rows that never change tenants
    #[arg(long)]
    harden: bool,
    /// Table by table in short steps, for tables in use: no statement of others waits longer than the lock timeout
    /// (--lock-timeout, here 2 s unless it is set)
    #[arg(long)]
    online: bool,
    /// With --online: how often a step is tried again where others hold the table [default: 10]
    #[arg(long, value_name = "N", requires = "online")]
    retries: Option<u32>,
    /// Which tenant a transaction may say that it serves [default: as before]
    #[arg(long, value_name = "MODE", value_enum)]
    context: Option<Context>,
    /// Print the SQL instead of running it
    #[arg(long, conflicts_with = "dry_run")]
    print: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OnNewTable {
    /// They are put under isolation
    Protect,
    /// They are refused
    Refuse,
    /// Nothing
    Off,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Context {
    /// Any
    Plain,
    /// One that is signed with a key which the application role cannot read
    Sealed,
}

impl From<Context> for Mode {
    fn from(mode: Context) -> Self {
        match mode {
            Context::Plain => Self::Plain,
            Context::Sealed => Self::Sealed,
        }
    }
}

impl From<OnNewTable> for NewTables {
    fn from(mode: OnNewTable) -> Self {
        match mode {
            OnNewTable::Protect => Self::Protect,
            OnNewTable::Refuse => Self::Refuse,
            OnNewTable::Off => Self::Off,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Done {
    #[serde(flatten)]
    protection: Protection,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    script: Option<String>,
    #[serde(skip)]
    word: String,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Done> {
        let options = Setup {
            enabled: app.config.enable_tenant_isolation.value,
            admin_bypass: app.config.system_admin_bypass.value,
            tables: self.table,
            shared: self.shared,
            tenant_columns: self.tenant_column,
            on_new_table: self.on_new_table.map(NewTables::from),
            harden: self.harden,
            context: self.context.map(Mode::from),
        };
        let done = |protection, script| Done {
            protection,
            dry_run: self.dry_run.dry_run,
            script,
            word: self.dry_run.word("protected", "protect"),
        };
        if self.online {
            let mut pace = Pace::default();
            if app.config.lock_timeout.source != Source::Default {
                pace.lock_timeout = app.config.lock_timeout.value;
            }
            pace.retries = self.retries.unwrap_or(pace.retries);
            let (protection, script) =
                online(app, &options, pace, self.print || self.dry_run.dry_run).await?;
            return Ok(done(protection, script.filter(|_| self.print)));
        }
        let notes = app.notes;
        let mut session = app.session().await?;
        // The tables are changed as the connecting role.
        let mut transaction = session.begin_checked().await?;
        let protection = if self.print {
            setup::plan(&mut transaction, &options).await?
        } else {
            let bar = notes.progress("rls setup");
            setup::setup_observed(&mut transaction, &options, |done, of, _| bar.set(done as u64, of as u64))
                .await?
        };
        if self.print || self.dry_run.dry_run {
            transaction.rollback().await?;
        } else {
            transaction.commit().await?;
        }
        let script = self.print.then(|| protection.script());
        Ok(done(protection, script))
    }
}

/// What was done step by step, or what would be, with the statements as a script.
async fn online(
    app: &mut App,
    options: &Setup,
    pace: Pace,
    plan: bool,
) -> anyhow::Result<(Protection, Option<String>)> {
    let notes = app.notes;
    let mut session = app.session().await?;
    if plan {
        let mut transaction = session.begin_checked().await?;
        let (protection, script) = online::plan(&mut transaction, options, pace).await?;
        transaction.rollback().await?;
        return Ok((protection, Some(script)));
    }
    let mut watcher = app.session().await?;
    let bar = notes.progress("rls setup");
    let mut observe = |event: online::Event<'_>| tell(&notes, &bar, &event);
    let protection = online::setup(&mut session, watcher.connection(), options, pace, &mut observe).await?;
    Ok((protection, None))
}

impl Report for Done {
    fn view(&self) -> View {
        if let Some(script) = &self.script {
            return View::Text(script.clone());
        }
        View::List {
            headers: vec!["TABLE", "KIND", "OUTCOME", "WHAT WAS DONE"],
            rows: self
                .protection
                .tables
                .iter()
                .map(|table| {
                    vec![
                        table.table.clone(),
                        table.kind.as_str().to_owned(),
                        table.outcome.as_str().to_owned(),
                        table.actions.join(", "),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.protection.tables.iter().map(|table| table.table.clone()).collect()
    }

    fn notes(&self) -> Vec<String> {
        if self.script.is_some() {
            return Vec::new();
        }
        let tables = &self.protection.tables;
        let changed = tables.iter().filter(|table| !table.statements.is_empty()).count();
        let mut notes = Vec::new();
        for table in tables {
            notes.extend(table.notes.iter().map(|note| format!("note: {}: {note}", table.table)));
        }
        notes.extend(self.protection.notes.iter().map(|note| format!("note: {note}")));
        notes.push(match changed {
            0 => format!("{} tables are protected already (unchanged)", tables.len()),
            _ => format!("{} {changed} of {} tables", self.word, tables.len()),
        });
        notes
    }
}
