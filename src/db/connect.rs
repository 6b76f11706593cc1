//! Connections and pools, from URLs and libpq's variables.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, PgConnection};

use crate::suggest::closest;
use crate::{Error, Result};

/// What a connection calls itself in `pg_stat_activity`, unless `PGAPPNAME` or the URL says otherwise.
const APPLICATION_NAME: &str = "tenantctl";

/// The parameters that a connection URL may have.
const PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// How many connections a platform's service keeps, under the names its owner knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// `DB_POOL_SIZE`: connections in normal operation.
    pub size: u32,
    /// `DB_MAX_OVERFLOW`: how many more may be open under load; they close once idle for a minute.
    pub overflow: u32,
    /// `DB_POOL_RECYCLE`: age at which a connection is replaced.
    pub recycle: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { size: 20, overflow: 30, recycle: Duration::from_secs(3600) }
    }
}

/// Reads a connection URL. Parts that it leaves out come from libpq's variables (`PGHOST`, `PGUSER`, …) and the
/// password from the `.pgpass` file.
///
/// # Errors
/// [`Error::Configuration`] without the URL in its message, since that may hold a password.
pub fn parse_url(url: &str) -> Result<PgConnectOptions> {
    let wrong = |reason: String| Error::Configuration {
        what: format!("the connection URL cannot be read: {reason}"),
        hint: Some("write postgres://USER@HOST:PORT/DATABASE, special characters percent-encoded".into()),
    };
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(wrong("it does not begin with postgres:// or postgresql://".into()));
    }
    // sqlx passes over what it does not know; `sslmod=verify-full` would connect without verifying anything.
    let query = url.split_once('?').map(|(_, query)| query).unwrap_or_default();
    for key in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|key| !key.is_empty()) {
        if !(PARAMETERS.contains(&key) || key.starts_with("options[") || key.starts_with("options%5")) {
            let suggestion = closest(key, PARAMETERS.iter().copied());
            return Err(Error::Configuration {
                what: format!("the connection URL has a parameter {key:?} that is not supported"),
                hint: Some(
                    suggestion
                        .map_or_else(|| "leave it out".into(), |known| format!("did you mean {known:?}?")),
                ),
            });
        }
    }
    url.parse::<PgConnectOptions>().map_err(|error| match error {
        sqlx::Error::Configuration(reason) => wrong(reason.to_string()),
        other => wrong(other.to_string()),
    })
}

/// A text of somebody else's making with the words taken out that look like a connection string: a parser quotes what
/// it trips over, and that may hold a password.
pub(crate) fn redact(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| c.is_whitespace() || "\"'`".contains(c)) {
        match ["://", "password=", "@"].iter().any(|mark| word.contains(mark)) {
            true => {
                shown.push('…');
                shown.extend(word.chars().next_back().filter(|c| c.is_whitespace() || "\"'`".contains(*c)));
            }
            false => shown.push_str(word),
        }
    }
    shown
}

fn prepare(options: PgConnectOptions) -> PgConnectOptions {
    // sqlx treats `allow` like `disable`. `prefer` gives what was asked for (TLS is acceptable) where a server has it.
    let options = match options.get_ssl_mode() {
        PgSslMode::Allow => options.ssl_mode(PgSslMode::Prefer),
        _ => options,
    };
    match options.get_application_name() {
        None | Some("") => options.application_name(APPLICATION_NAME),
        Some(_) => options,
    }
}

/// Opens one connection and fails at once if that is impossible.
///
/// # Errors
/// [`Error::Database`]: unreachable, refused, or the server said no. [`Error::Configuration`]: it took longer than
/// `timeout`.
pub async fn connect(options: PgConnectOptions, timeout: Duration) -> Result<PgConnection> {
    let options = prepare(options).disable_statement_logging();
    match tokio::time::timeout(timeout, options.connect()).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(Error::Database(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer from {} within {} s", options.get_host(), timeout.as_secs()),
        )))),
    }
}

/// A pool for a service, opened on first use.
pub fn pool(options: PgConnectOptions, settings: PoolSettings) -> PgPool {
    PgPoolOptions::new()
        .max_connections(settings.size.saturating_add(settings.overflow).max(1))
        .max_lifetime(settings.recycle)
        .idle_timeout(if settings.overflow > 0 { Some(Duration::from_secs(60)) } else { None })
        .connect_lazy_with(prepare(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_does_not_leak_its_password() {
        for url in ["postgres://u:hunter2@host:notaport/db", "mysql://u:hunter2@host/db", "hunter2"] {
            let error = parse_url(url).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(
                !error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_quoted_connection_string_is_taken_out() {
        for (text, shown) in [
            ("unknown field `postgres://u:pw@h/d`, expected `url`", "unknown field `…`, expected `url`"),
            (
                "invalid type: string \"url u:pw@h\", expected map",
                "invalid type: string \"url …\", expected map",
            ),
            ("host=h password=pw", "host=h …"),
            ("nothing to hide at line 3", "nothing to hide at line 3"),
        ] {
            assert_eq!(redact(text), shown);
        }
    }

    #[test]
    fn a_mistyped_parameter_is_refused_without_its_value() {
        let error = parse_url("postgres://h/db?passwrod=hunter2").unwrap_err();
        assert!(
            error.to_string().contains("passwrod") && !format!("{error:?}").contains("hunter2"),
            "{error:?}"
        );
        assert_eq!(error.hint().as_deref(), Some("did you mean \"password\"?"));
        assert!(parse_url("postgres://h/db?sslmode=require&options[search_path]=x").is_ok());
    }

    #[test]
    fn a_connection_says_who_it_is() {
        let named = prepare(parse_url("postgres://h/db?application_name=billing").unwrap());
        assert_eq!(named.get_application_name(), Some("billing"));
        assert_eq!(
            prepare(parse_url("postgres://h/db").unwrap()).get_application_name(),
            Some(APPLICATION_NAME)
        );
    }
}
