//! `tenantctl usage ingest`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::Error;
use tenancy::usage::ingest::{self, Format, Input, LineResult, Options, Outcome, Summary};

use crate::cli::app::{App, DryRun};
use crate::output::{Report, View};

/// Lines that are shown of those that were not accepted; --results has all.
const SHOWN: usize = 20;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// NDJSON or CSV, which may be gzipped; - for standard input. A line has tenant, metric and, if need be, amount, key
    /// and at
    file: PathBuf,
    /// How lines are written [default: as the first looks]
    #[arg(long, value_enum)]
    format: Option<Written>,
    /// Names the batch, so that its lines without a key count once however often it is ingested [default: a digest of the
    /// file]
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    batch: Option<String>,
    /// How long ago usage may have happened
    #[arg(long, default_value = "35d", value_parser = humantime::parse_duration)]
    window: Duration,
    /// Writes what became of each line to a file, as NDJSON
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Written {
    /// A JSON object a line
    Ndjson,
    /// Columns that the first line names
    Csv,
}

#[derive(Serialize)]
pub(crate) struct Ingested {
    #[serde(flatten)]
    summary: Summary,
    /// The first lines that were not accepted.
    not_accepted: Vec<LineResult>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    took: Duration,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Ingested> {
        let environment = app.environment();
        let input = if self.file.as_os_str() == "-" { Input::Stdin } else { Input::File(self.file.clone()) };
        let options = Options {
            format: self.format.map(|format| match format {
                Written::Ndjson => Format::Ndjson,
                Written::Csv => Format::Csv,
            }),
            batch: self.batch,
            window: self.window,
            dry_run: self.dry_run.dry_run,
        };
        let mut results = match &self.results {
            Some(path) => {
                let file = std::fs::File::create(path).map_err(|error| {
                    Error::invalid("results", path.display().to_string(), error.to_string())
                })?;
                Some((BufWriter::new(file), path.display().to_string()))
            }
            None => None,
        };
        let mut session = app.session().await?;
        let bar = app.notes.progress("ingesting");
        let start = Instant::now();
        let mut not_accepted = Vec::new();
        let summary = ingest::ingest(
            &mut session,
            &input,
            &options,
            &environment,
            |done, of| bar.set(done, of.unwrap_or(done)),
            |result| {
                if let Some((file, name)) = &mut results {
                    serde_json::to_writer(&mut *file, result)
                        .map_err(std::io::Error::from)
                        .and_then(|()| file.write_all(b"\n"))
                        .map_err(|error| Error::invalid("results", name.clone(), error.to_string()))?;
                }
                let recorded =
                    matches!(result.outcome, Outcome::Accepted | Outcome::OverSoftLimit | Outcome::Duplicate);
                if !recorded && not_accepted.len() < SHOWN {
                    not_accepted.push(result.clone());
                }
                Ok(())
            },
        )
        .await
        .context("not all was ingested; run the same again: what was recorded counts once")?;
        if let Some((mut file, name)) = results {
            file.flush().map_err(|error| Error::invalid("results", name, error.to_string()))?;
        }
        Ok(Ingested { summary, not_accepted, dry_run: self.dry_run.dry_run, took: start.elapsed() })
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::OverSoftLimit => "over_soft_limit",
        Outcome::Duplicate => "duplicate",
        Outcome::Rejected => "rejected",
        Outcome::UnknownTenant => "unknown_tenant",
        Outcome::UnknownMetric => "unknown_metric",
        Outcome::TooOld => "too_old",
        Outcome::Invalid => "invalid",
    }
}

impl Report for Ingested {
    fn view(&self) -> View {
        let summary = &self.summary;
        let counts = [
            (Outcome::Accepted, summary.accepted),
            (Outcome::OverSoftLimit, summary.over_soft_limit),
            (Outcome::Duplicate, summary.duplicate),
            (Outcome::Rejected, summary.rejected),
            (Outcome::UnknownTenant, summary.unknown_tenant),
            (Outcome::UnknownMetric, summary.unknown_metric),
            (Outcome::TooOld, summary.too_old),
            (Outcome::Invalid, summary.invalid),
        ];
        View::List {
            headers: vec!["OUTCOME", "LINES"],
            rows: counts
                .into_iter()
                .filter(|(_, lines)| *lines > 0)
                .map(|(outcome, lines)| vec![word(outcome).to_owned(), lines.to_string()])
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.not_accepted.iter().map(|result| result.line.to_string()).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self
            .not_accepted
            .iter()
            .map(|result| {
                let mut text = format!("line {}: {}", result.line, word(result.outcome));
                if let (Outcome::Rejected, Some(used), Some(limit)) =
                    (result.outcome, result.used, result.limit)
                {
                    text.push_str(&format!(", {used} used of {limit}"));
                }
                if let Some(reason) = &result.reason {
                    text.push_str(": ");
                    text.push_str(reason);
                }
                text
            })
            .collect();
        let more = self.summary.refused() - self.not_accepted.len() as u64;
        if more > 0 {
            notes.push(format!("and {more} more lines; --results FILE has them all"));
        }
        if self.summary.without_key > 0 {
            notes.push(format!(
                "{} lines have no key: ingested again they count again; name the batch with --batch",
                self.summary.without_key
            ));
        }
        let seconds = self.took.as_secs_f64().max(0.001);
        notes.push(format!(
            "{} {} lines in {seconds:.1} s, {:.0} a second",
            if self.dry_run { "would ingest" } else { "ingested" },
            self.summary.lines,
            self.summary.lines as f64 / seconds
        ));
        notes
    }

    fn check_failed(&self) -> bool {
        self.summary.refused() > 0
    }
}
