//! `tenantctl rls verify`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::Error;
use tenancy::rls::mutate::{Extent, mutate};
use tenancy::rls::report::{self, Form, Severity};
use tenancy::rls::verify::{self, Options};
use tenancy::rls::{Baseline, Contract};

use super::mutate::{Mutated, extents};
use super::report_file::{self, ReportFile, forms};
use super::repro;
use super::source::{self, Source};
use crate::cli::app::App;
use crate::output::{Format, Printable, Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only this table (may be given more than once)
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,
    /// Only this check (may be given more than once)
    #[arg(long, value_name = "CHECK")]
    check: Vec<String>,
    /// Application role to attack as (may be given more than once) [default: the control plane's]
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// Isolation contract of a platform that this tool does not manage (`rls contract init` guesses one)
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Probe the platform's connection pooler as well, at this URL: what one client leaves to the next
    #[arg(long, value_name = "URL", conflicts_with_all = ["no_probes", "schema", "migrations"])]
    pooler: Option<String>,
    /// Name of the tenant column, without a contract (may be given more than once) [default: tenant_id]
    #[arg(long, value_name = "COLUMN", conflicts_with = "contract")]
    tenant_column: Vec<String>,
    #[command(flatten)]
    source: Source,
    /// Read the catalogue only, and attack nothing
    #[arg(long)]
    no_probes: bool,
    /// Attack although the profile is protected: rows are written, and rolled back
    #[arg(long, conflicts_with = "no_probes")]
    allow_probes: bool,
    /// Fail on what could not be proven, too [default where CI=true]
    #[arg(long)]
    strict: bool,
    /// Fail on findings of this severity and above: error, warning or note
    #[arg(long, value_name = "SEVERITY", default_value = "warning")]
    fail_on: Severity,
    /// Form of the report on standard output [default: text, or what --output says]
    #[arg(long, value_name = "FORM", value_parser = forms())]
    format: Option<Form>,
    /// Write the report to a file as well, as sarif=FILE; any form, more than once
    #[arg(long, value_name = "FORM=FILE")]
    report: Vec<ReportFile>,
    /// Let only what is new since an earlier report (`rls verify -o json`) fail
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write a script for psql to this folder for each statement that got through a table's policies; it shows the leak
    #[arg(long, value_name = "DIR", conflicts_with = "no_probes")]
    repro: Option<PathBuf>,
    /// Write the same proof as a test file for pgTAP, which passes here under pg_prove and fails where something gets
    /// through
    #[arg(long, value_name = "FILE", conflicts_with = "no_probes")]
    pgtap: Option<PathBuf>,
    /// Weaken the isolation in every way there is, roll it back, and tell which weakenings would be noticed: of one
    /// table of each shape, or of all; locks each while it lasts
    #[arg(
        long,
        value_name = "EXTENT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "shapes",
        value_parser = extents(),
        conflicts_with_all = ["format", "report", "repro", "pgtap"]
    )]
    mutate: Option<Extent>,
}

#[derive(Serialize)]
pub(crate) struct Verified {
    #[serde(flatten)]
    report: report::Report,
    /// What goes to standard output where that is not data in one of the common formats.
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    written: Vec<String>,
    #[serde(skip)]
    failure: Option<anyhow::Error>,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        if self.mutate.is_some() && app.config.protected {
            return Err(Error::refused(
                "this profile is protected: --mutate locks its tables while they are weakened",
                "run it against a copy of the database",
            )
            .into());
        }
        app.output.format = match self.format {
            Some(Form::Json) => Format::Json,
            Some(_) => Format::Table,
            None => app.output.format,
        };
        let baseline = self.baseline.as_deref().map(Baseline::read).transpose()?.unwrap_or_default();
        let files = report_file::open(&self.report)?;
        let contract = self.contract.as_deref().map(Contract::read).transpose()?;
        let made = self.source.make(app, contract.is_some() || !self.role.is_empty()).await?;
        if made.is_none() && app.config.protected && !self.no_probes && !self.allow_probes {
            return Err(Error::refused(
                "this profile is protected: the probes write rows of two made-up tenants into every tenant table, try to \
                 change and delete them, and roll all of it back",
                "pass --allow-probes to let them, or --no-probes for what the catalogue alone shows (nothing is proven then)",
            )
            .into());
        }
        let bar =
            app.notes.progress(if self.mutate.is_some() { "rls verify --mutate" } else { "rls verify" });
        let mut options = Options {
            app_roles: self.role,
            ignore: contract.iter().flat_map(|contract| contract.ignore.clone()).collect(),
            contract,
            pooler: self.pooler.as_deref().map(tenancy::db::parse_url).transpose()?,
            tables: self.table,
            checks: self.check,
            probes: !self.no_probes,
            strict: self.strict || std::env::var("CI").is_ok_and(|ci| ci == "true"),
            fail_on: self.fail_on,
            baseline,
            tests: self.pgtap.is_some(),
            lock_timeout: app.config.lock_timeout.value,
            statement_timeout: app.config.statement_timeout.value,
            progress: Some(Arc::new(move |progress| bar.set(progress.done as u64, progress.total as u64))),
            ..Options::default()
        };
        if !self.tenant_column.is_empty() {
            options.tenant_columns = self.tenant_column;
        }
        if options.contract.is_none() && made.is_none() {
            // Makes sure that there is a control plane of the right version.
            let mut session = app.session().await?;
            session.begin_checked().await?.rollback().await?;
        }
        let from_files = made.is_some();
        let connect = match made {
            Some(connect) => connect,
            None => app.options()?,
        };
        // What the contract names is not there: say in which file.
        let named = |error| match (error, &self.contract) {
            (Error::Configuration { what, hint }, Some(file)) => {
                Error::Configuration { what: format!("{}: {what}", file.display()), hint }
            }
            (error, _) => error,
        };
        if let Some(extent) = self.mutate {
            let mutations = mutate(&connect, &options, extent).await.map_err(named)?;
            return Ok(Box::new(Mutated(mutations)));
        }
        let run = verify::attempt(&connect, &options).await.map_err(named)?;
        let report = run.report;
        if from_files {
            source::refuse_nothing(&report, self.contract.as_deref(), &options.tenant_columns)?;
        }
        let failure =
            run.failure.map(|error| anyhow::Error::from(error).context("the verification ended early"));
        let text = self.format.unwrap_or(Form::Text).render(&report, app.output.colour)?;
        let mut verified = Verified { report, text, written: Vec::new(), failure };
        for file in files {
            let name = file.name();
            // What was found is told all the same.
            match file.write(&verified.report) {
                Ok(()) => verified.written.push(name),
                Err(error) => verified.failure = verified.failure.or(Some(error)),
            }
        }
        if let Some(folder) = &self.repro {
            match repro::write(&verified.report, folder) {
                Ok(scripts) => verified.written.extend(scripts),
                Err(error) => verified.failure = Some(error),
            }
        }
        if let Some(file) = &self.pgtap {
            match std::fs::write(file, verified.report.pgtap()) {
                Ok(()) => verified.written.push(file.display().to_string()),
                Err(error) => {
                    let context = format!("the tests could not be written to {}", file.display());
                    verified.failure = Some(anyhow::Error::new(error).context(context));
                }
            }
        }
        Ok(Box::new(verified))
    }
}

impl Report for Verified {
    fn view(&self) -> View {
        View::Text(self.text.clone())
    }

    fn ids(&self) -> Vec<String> {
        self.report.findings.iter().map(|finding| finding.fingerprint.clone()).collect()
    }

    fn notes(&self) -> Vec<String> {
        let stale = self.report.stale_ignores.iter().map(|stale| format!("note: {stale}"));
        stale.chain(self.written.iter().map(|file| format!("wrote {file}"))).collect()
    }

    fn failure(&mut self) -> Option<anyhow::Error> {
        self.failure.take()
    }

    fn check_failed(&self) -> bool {
        !self.report.summary.passed
    }
}
