//! What became of a change.

use serde::Serialize;

use crate::{Error, Result};

/// Whether a call changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did not exist before.
    Created,
    /// It is different now.
    Updated,
    /// It was as asked for already.
    Unchanged,
    /// It is gone.
    Removed,
}

impl Outcome {
    /// Its name in JSON and in notes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
        }
    }
}

/// What a call left behind, and whether it changed it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change<T> {
    /// Whether anything changed.
    pub outcome: Outcome,
    /// What is there now (or, where it was removed, what was).
    #[serde(flatten)]
    pub value: T,
}

impl<T> Change<T> {
    pub(crate) fn unchanged(value: T) -> Self {
        Self { outcome: Outcome::Unchanged, value }
    }
}

/// Makes sure that a statement hit the one row that it was meant for.
pub(crate) fn one_row(kind: &'static str, name: &str, affected: u64) -> Result<()> {
    match affected {
        1 => Ok(()),
        other => Err(Error::Conflict {
            kind,
            name: name.into(),
            reason: format!("changed meanwhile ({other} rows instead of one)"),
            hint: Some("look at it again and repeat".into()),
        }),
    }
}
