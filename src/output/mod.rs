//! What a command prints: data on standard output in one of several formats, everything else on standard error.

mod graph;
mod notes;
mod record;
mod table;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::Value;

pub(crate) use graph::{bar, sparkline};
pub(crate) use notes::{Notes, Progress};

/// The formats of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: columns, boxed at a terminal.
    Table,
    /// The resource itself: an object for one, an array for many.
    Json,
    /// The same in YAML.
    Yaml,
    /// One line a resource, with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// How a report looks to people.
pub(crate) enum View {
    /// Many of one kind: a line each.
    List {
        /// Names of the columns.
        headers: Vec<&'static str>,
        /// A cell for each column.
        rows: Vec<Vec<String>>,
    },
    /// One thing: a line for each of its properties.
    Record(Vec<(&'static str, String)>),
    /// Lines as they are.
    Text(String),
}

/// What a verb returns: the data, and how people, scripts and the exit code see it.
pub(crate) trait Report: Serialize {
    /// How people see it.
    fn view(&self) -> View;

    /// The identifiers alone, for `-q`.
    fn ids(&self) -> Vec<String>;

    /// What to say on standard error once it is done.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// A failure that the report tells of: it is printed after the data, and decides the exit code.
    fn failure(&mut self) -> Option<anyhow::Error> {
        None
    }

    /// A check that failed: exit code 5, the report itself says why.
    fn check_failed(&self) -> bool {
        false
    }
}

/// Prints reports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) quiet: bool,
    /// Whether text on standard output may be coloured.
    pub(crate) colour: bool,
}

impl Output {
    /// Prints the data of a report to standard output.
    pub(crate) fn print(&self, report: &dyn Printable) -> io::Result<()> {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let mut text = String::new();
        if self.quiet {
            for id in report.ids() {
                text.push_str(&id);
                text.push('\n');
            }
        } else {
            let value = || report.value().map_err(io::Error::other);
            match self.format {
                Format::Table => {
                    text = table::render(&report.view(), terminal);
                    if self.colour && terminal {
                        text = graph::colour_bars(&text);
                    }
                }
                Format::Json => {
                    text = serde_json::to_string_pretty(&value()?).map_err(io::Error::other)?;
                    text.push('\n');
                }
                Format::Yaml => text = serde_yaml::to_string(&value()?).map_err(io::Error::other)?,
                Format::Csv => text = record::csv(&value()?)?,
                Format::Ndjson => text = record::ndjson(&value()?),
            }
        }
        let mut lock = stdout.lock();
        lock.write_all(text.as_bytes())?;
        lock.flush()
    }
}

/// A [`Report`] behind a pointer.
pub(crate) trait Printable {
    fn view(&self) -> View;
    fn ids(&self) -> Vec<String>;
    fn notes(&self) -> Vec<String>;
    fn value(&self) -> serde_json::Result<Value>;
    fn failure(&mut self) -> Option<anyhow::Error>;
    fn check_failed(&self) -> bool;
}

impl<R: Report> Printable for R {
    fn view(&self) -> View {
        Report::view(self)
    }

    fn ids(&self) -> Vec<String> {
        Report::ids(self)
    }

    fn notes(&self) -> Vec<String> {
        Report::notes(self)
    }

    fn value(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn failure(&mut self) -> Option<anyhow::Error> {
        Report::failure(self)
    }

    fn check_failed(&self) -> bool {
        Report::check_failed(self)
    }
}
