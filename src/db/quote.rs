//! The one place where SQL text is put together from parts.
//!
//! Values are bound wherever PostgreSQL takes parameters. Identifiers, and the few statements that take none, are quoted
//! here by PostgreSQL's rules; nothing else in the library wraps a string as SQL.

use sqlx::AssertSqlSafe;

/// An identifier in double quotes, with the quotes in it doubled.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
pub fn literal(value: &str) -> String {
    if value.contains('\\') {
        format!("E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}

/// Declares a text to be SQL: every name in it went through [`ident`], every value through [`literal`] or a parameter.
pub(crate) fn trusted(sql: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(ident("we\"ird é"), "\"we\"\"ird é\"");
        assert_eq!(literal("Robert'); DROP TABLE tenants;--"), "'Robert''); DROP TABLE tenants;--'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
