//! `tenantctl rls verify`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::Error;
use tenancy::rls::Contract;
use tenancy::rls::report::{self, Severity, Verdict};
use tenancy::rls::verify::{self, Options};

use crate::cli::app::App;
use crate::output::{Format, Report, View};

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
    /// Read the catalogue only, and attack nothing
    #[arg(long)]
    no_probes: bool,
    /// Fail on what could not be proven, too [default where CI=true]
    #[arg(long)]
    strict: bool,
    /// Fail on findings of this severity and above: error, warning or note
    #[arg(long, value_name = "SEVERITY", default_value = "warning")]
    fail_on: Severity,
    /// Form of the report [default: text, or what --output says]
    #[arg(long, value_enum, value_name = "FORM")]
    format: Option<Form>,
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Verified(report::Report);

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Verified> {
        app.output.format = match self.format {
            Some(Form::Text) => Format::Table,
            Some(Form::Json) => Format::Json,
            None => app.output.format,
        };
        let contract = self.contract.as_deref().map(Contract::read).transpose()?;
        let bar = app.notes.progress("rls verify");
        let options = Options {
            app_roles: self.role,
            contract,
            tables: self.table,
            checks: self.check,
            probes: !self.no_probes,
            strict: self.strict || std::env::var("CI").is_ok_and(|ci| ci == "true"),
            fail_on: self.fail_on,
            lock_timeout: app.config.lock_timeout.value,
            statement_timeout: app.config.statement_timeout.value,
            progress: Some(Arc::new(move |progress| bar.set(progress.done as u64, progress.total as u64))),
            ..Options::default()
        };
        if options.contract.is_none() {
            // Makes sure that there is a control plane of the right version.
            let mut session = app.session().await?;
            session.begin_checked().await?.rollback().await?;
        }
        let connect = app.options()?;
        let report =
            verify::verify(&connect, &options).await.map_err(|error| match (error, &self.contract) {
                // What the contract names is not there: say in which file.
                (Error::Configuration { what, hint }, Some(file)) => {
                    Error::Configuration { what: format!("{}: {what}", file.display()), hint }
                }
                (error, _) => error,
            })?;
        Ok(Verified(report))
    }
}

impl Report for Verified {
    fn view(&self) -> View {
        View::Text(text(&self.0))
    }

    fn ids(&self) -> Vec<String> {
        self.0.findings.iter().map(|finding| finding.fingerprint.clone()).collect()
    }

    fn check_failed(&self) -> bool {
        !self.0.summary.passed
    }
}

/// The report for people, the worst first.
pub(crate) fn text(report: &report::Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {} on {} {}",
            finding.severity.as_str(),
            finding.check,
            finding.object_kind,
            finding.object
        );
        for (label, value) in
            [("", &finding.message), ("evidence: ", &finding.evidence), ("fix: ", &finding.fix)]
        {
            if !value.is_empty() {
                let _ = writeln!(text, "  {label}{}", value.replace('\n', "\n    "));
            }
        }
    }
    for unproven in &report.not_proven {
        let _ = writeln!(text, "not proven: {}\n  {}", unproven.object, unproven.reason);
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let summary = &report.summary;
    let proven = report.tables.iter().filter(|table| table.verdict == Verdict::Proven).count();
    let _ = writeln!(
        text,
        "{}: {} tables, {proven} proven; {} checks; {} attacks tried, {} failed; {} errors, {} warnings, {} notes",
        if summary.passed { "passed" } else { "FAILED" },
        summary.tables,
        summary.checks,
        report.attempts.tried,
        report.attempts.failed,
        summary.errors,
        summary.warnings,
        summary.notes,
    );
    text
}
