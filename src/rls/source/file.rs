//! The files themselves.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFile {
    /// What it is called in errors.
    pub name: String,
    /// What it says.
    pub text: String,
    /// Whether the tool that it is written for runs it in one transaction.
    pub transaction: bool,
    /// Whether it is one of a Supabase project's.
    pub supabase: bool,
}

/// Reads files to run them one after the other, as psql would; `-` is standard input.
///
/// # Errors
/// [`Error::Script`], naming the file.
pub fn schema_files(paths: &[PathBuf]) -> Result<Vec<SqlFile>> {
    paths.iter().map(|path| SqlFile::read(path)).collect()
}

impl SqlFile {
    pub(super) fn read(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Self::new("standard input", std::io::read_to_string(std::io::stdin().lock()));
        }
        let name = path.display().to_string();
        if path.is_dir() {
            return Err(unusable(name, "it is a directory", "--migrations reads directories"));
        }
        Self::new(name, std::fs::read_to_string(path))
    }

    fn new(name: impl Into<String>, text: std::io::Result<String>) -> Result<Self> {
        let name = name.into();
        let text = match text {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                let hint = "a dump has to be plain text (pg_dump --format=plain)";
                return Err(unusable(name, "it is not text in UTF-8", hint));
            }
            Err(error) => {
                let what = error.to_string();
                return Err(Error::Script { file: name, line: None, what, hint: None, cause: None });
            }
        };
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Ok(Self { name, text, transaction: false, supabase: false })
    }
}

impl SqlFile {
    /// What is wrong with a line of it.
    pub(super) fn wrong(&self, line: usize, what: impl Into<String>, hint: Option<&str>) -> Error {
        Error::Script {
            file: self.name.clone(),
            line: Some(line),
            what: what.into(),
            hint: hint.map(str::to_owned),
            cause: None,
        }
    }
}

/// A file or a directory that is none of those that can be read.
pub(super) fn unusable(file: impl Into<String>, what: impl Into<String>, hint: &str) -> Error {
    Error::Script { file: file.into(), line: None, what: what.into(), hint: Some(hint.into()), cause: None }
}
