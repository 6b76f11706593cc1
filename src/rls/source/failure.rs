//! What is said of a statement that failed.

use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use super::file::SqlFile;
use crate::Error;
use crate::db::script::Statement;

/// What failed, where, and what may be done.
pub(super) fn failed(
    file: &SqlFile,
    at: Option<(&Statement<'_>, Option<usize>)>,
    error: sqlx::Error,
) -> Error {
    let known = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
    let mut what = known.map_or_else(|| error.to_string(), |known| known.message().to_owned());
    let mut hint = known.and_then(PgDatabaseError::hint).map(str::to_owned);
    let mut line = None;
    if let Some((statement, rows)) = at {
        line = Some(rows.zip(known.and_then(row)).map_or_else(
            || {
                statement.line
                    + known.and_then(|known| lines_before(known, statement.text)).unwrap_or_default()
            },
            |(first, row)| first + row - 1,
        ));
        if let Some(detail) = known.and_then(PgDatabaseError::detail) {
            what = format!("{what} ({detail})");
        }
        what = format!("{what}, in: {}", excerpt(statement));
        if let Some(name) =
            extension(statement).filter(|_| known.is_some_and(|e| matches!(e.code(), "0A000" | "58P01")))
        {
            hint = Some(format!(
                "install the extension {name:?} for the PostgreSQL on this machine, or name another one's binaries with \
                 TENANTCTL_PG_BIN"
            ));
        } else if what.starts_with("syntax error at or near \":\"") {
            hint = Some("variables of psql are not supported: write out their values".into());
        }
    }
    Error::Script { file: file.name.clone(), line, what, hint, cause: Some(Box::new(error)) }
}

/// How many lines of the statement come before the place that the server names.
fn lines_before(error: &PgDatabaseError, text: &str) -> Option<usize> {
    match error.position()? {
        PgErrorPosition::Original(at) => {
            Some(text.chars().take(at.saturating_sub(1)).filter(|c| *c == '\n').count())
        }
        PgErrorPosition::Internal { .. } => None,
    }
}

/// The row of a COPY that the server names, the first being 1.
fn row(error: &PgDatabaseError) -> Option<usize> {
    let (_, rest) = error.r#where()?.split_once(", line ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The beginning of a statement, on one line and without passwords.
fn excerpt(statement: &Statement<'_>) -> String {
    const LONGEST: usize = 100;
    let text = statement.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = text.to_ascii_lowercase().find(" password ");
    let shown: String = text[..end.unwrap_or(text.len())].chars().take(LONGEST).collect();
    if shown.len() < text.len() { format!("{shown} …") } else { shown }
}

/// The extension that a statement makes.
fn extension(statement: &Statement<'_>) -> Option<String> {
    let rest = statement.words.strip_prefix(&["create".to_owned(), "extension".to_owned()])?;
    rest.iter().find(|word| !matches!(word.as_str(), "if" | "not" | "exists")).map(|word| plain(word))
}

/// A word of a statement as the name that it is.
pub(super) fn plain(word: &str) -> String {
    match word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::script::{Item, split};

    #[test]
    fn an_excerpt_is_short_and_holds_no_password() {
        let shown = |text: &str| {
            let items = split(text).unwrap();
            let Item::Sql(statement) = &items[0] else { panic!("{items:?}") };
            excerpt(statement)
        };
        assert_eq!(shown("SELECT\n  1;"), "SELECT 1");
        assert_eq!(shown("CREATE ROLE x LOGIN\n PASSWORD 'hunter2'"), "CREATE ROLE x LOGIN …");
        assert_eq!(shown(&format!("SELECT '{}'", "é".repeat(200))).chars().count(), 102);
    }
}
