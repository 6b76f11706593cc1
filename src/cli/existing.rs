//! What `--if-exists` makes of a verb: its report, or that there was nothing to do.

use serde::Serialize;
use tenancy::{Error, ErrorKind, Outcome};

use crate::output::{Report, View};

/// The report of a verb on something that may not exist.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Existing<R> {
    /// It existed.
    Found(Box<R>),
    /// It did not, and that was fine.
    Absent {
        /// Always `unchanged`.
        outcome: Outcome,
        #[serde(skip)]
        note: String,
    },
}

impl<R> Existing<R> {
    pub(crate) fn absent(note: String) -> Self {
        Self::Absent { outcome: Outcome::Unchanged, note }
    }
}

/// Whether a failure means that a named object does not exist.
pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref().map(Error::kind) == Some(ErrorKind::NotFound)
}

impl<R: Report> Report for Existing<R> {
    fn view(&self) -> View {
        match self {
            Self::Found(report) => report.view(),
            Self::Absent { .. } => View::Text(String::new()),
        }
    }

    fn ids(&self) -> Vec<String> {
        match self {
            Self::Found(report) => report.ids(),
            Self::Absent { .. } => Vec::new(),
        }
    }

    fn notes(&self) -> Vec<String> {
        match self {
            Self::Found(report) => report.notes(),
            Self::Absent { note, .. } => vec![note.clone()],
        }
    }
}
