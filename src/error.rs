//! What can go wrong, with the facts a program needs to act on it and the words a person needs to mend it.

use serde_json::{Value, json};

use crate::db::embedded;

/// Result of a library operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a library operation. The message names the object, [`Error::hint`] names the fix, and neither ever
/// carries a password or a full connection URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A noun that was named does not exist.
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// What was looked for: `tenant`, `user`, `plan`, …
        kind: &'static str,
        /// The name as it was given.
        name: String,
        /// An existing name that was probably meant.
        suggestion: Option<String>,
    },
    /// It exists already, or it changed meanwhile.
    #[error("{kind} {name:?} {reason}")]
    Conflict {
        /// What stands in the way.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why it conflicts: `already exists`, …
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A value that was given does not fit.
    #[error("invalid {field} {value:?}: {reason}")]
    Invalid {
        /// The field the value was meant for.
        field: &'static str,
        /// The value as it was given.
        value: String,
        /// What is wrong with it.
        reason: String,
        /// What to give instead.
        hint: Option<String>,
    },
    /// The plan's limit does not allow it. Nothing was changed.
    #[error(
        "tenant {tenant:?} would exceed its limit of {metric}: {used} used of {limit} on plan {plan}, {amount} more \
         asked for"
    )]
    LimitExceeded {
        /// Slug of the tenant.
        tenant: String,
        /// Key of the metric.
        metric: String,
        /// What was asked for, in the metric's unit.
        amount: i64,
        /// What is used already.
        used: i64,
        /// The limit in force.
        limit: i64,
        /// Key of the tenant's plan.
        plan: String,
        /// Since when the metric counts; none where it never resets.
        period_start: Option<time::OffsetDateTime>,
    },
    /// The tenant uses more than the plan it was to move to allows. Nothing was changed.
    #[error("tenant {tenant:?} does not fit plan {plan}: {}", excesses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    PlanTooSmall {
        /// Slug of the tenant.
        tenant: String,
        /// Key of the plan that was asked for.
        plan: String,
        /// Each metric that is over.
        excesses: Vec<Excess>,
    },
    /// It would break a rule, or consent to it is missing.
    #[error("{what}")]
    Refused {
        /// What was refused and why.
        what: String,
        /// How to get it done all the same.
        hint: Option<String>,
    },
    /// The control plane's schema is missing, or of another version than this program knows.
    #[error("{what}")]
    SchemaVersion {
        /// What was found against what is needed.
        what: String,
        /// Which side to bring up to date.
        hint: String,
    },
    /// No database was named, in any of the ways there are.
    #[error("no database configured")]
    NoDatabase,
    /// The configuration or the connection string is wrong.
    #[error("{what}")]
    Configuration {
        /// Which setting, from where, and what is wrong with it.
        what: String,
        /// What to write instead.
        hint: Option<String>,
    },
    /// A file of SQL cannot be read or applied.
    #[error("{file}{}: {what}", line.map(|line| format!(":{line}")).unwrap_or_default())]
    Script {
        /// The file.
        file: String,
        /// The line in it, where one is to blame.
        line: Option<usize>,
        /// What is wrong, with the beginning of the statement.
        what: String,
        /// What to do about it.
        hint: Option<String>,
        /// What the server said, as far as `what` does not say it.
        cause: Option<Box<sqlx::Error>>,
    },
    /// The data in the control plane is not what this library wrote.
    #[error("{table}.{column} of {row} holds {value:?}: {reason}")]
    BadData {
        /// Table in schema `tenancy`.
        table: &'static str,
        /// Column of it.
        column: &'static str,
        /// Which row, by its key.
        row: String,
        /// What it holds.
        value: String,
        /// Why that cannot be.
        reason: String,
    },
    /// The embedded server did not do as it was told.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// PostgreSQL, or the way to it, failed.
    #[error("{}", database_words(.0))]
    Database(sqlx::Error),
    /// A failure that several callers of [`crate::usage::UsageRecorder`] share.
    #[error("{0}")]
    Shared(std::sync::Arc<Error>),
    /// A migration of the control plane failed; the whole run was rolled back.
    #[error("the control plane could not be migrated")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// What PostgreSQL said, without the line of its own source code that sqlx adds.
fn database_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

/// A metric of which a tenant uses more than a plan allows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Excess {
    /// Key of the metric.
    pub metric: String,
    /// What the tenant uses, in the metric's unit.
    pub used: i64,
    /// What the plan allows.
    pub limit: i64,
}

impl std::fmt::Display for Excess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} used of {}", self.used, self.metric, self.limit)
    }
}

/// What sort of failure an [`Error`] is: what a program decides by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// None of the others.
    Unexpected,
    /// Wrong usage, invalid input or configuration.
    Invalid,
    /// A named object does not exist.
    NotFound,
    /// It exists already, or changed meanwhile.
    Conflict,
    /// A plan limit or a feature refused it.
    LimitExceeded,
    /// No database configured, or it cannot be reached.
    Unreachable,
    /// The database refused permission.
    PermissionDenied,
    /// The control plane's schema is missing, older or newer than this library.
    SchemaVersion,
    /// Consent is missing, or it would break a rule.
    Refused,
}

impl ErrorKind {
    /// The stable name of the kind, as programs see it in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unexpected => "unexpected",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::LimitExceeded => "limit_exceeded",
            Self::Unreachable => "unreachable",
            Self::PermissionDenied => "permission_denied",
            Self::SchemaVersion => "schema_version",
            Self::Refused => "refused",
        }
    }
}

impl Error {
    /// An [`Error::Invalid`] without a hint.
    pub fn invalid(field: &'static str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field, value: value.into(), reason: reason.into(), hint: None }
    }

    /// An [`Error::Refused`].
    pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: Some(hint.into()) }
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Invalid { .. } | Self::Configuration { .. } => ErrorKind::Invalid,
            // Where the server went away it is not the file's fault.
            Self::Script { cause, .. } => match cause.as_deref() {
                Some(error) if database_kind(error) == ErrorKind::Unreachable => ErrorKind::Unreachable,
                _ => ErrorKind::Invalid,
            },
            Self::LimitExceeded { .. } | Self::PlanTooSmall { .. } => ErrorKind::LimitExceeded,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::SchemaVersion { .. } => ErrorKind::SchemaVersion,
            Self::NoDatabase => ErrorKind::Unreachable,
            Self::BadData { .. } => ErrorKind::Unexpected,
            Self::Embedded(error) => embedded_kind(error),
            Self::Database(error) => database_kind(error),
            Self::Migrate(sqlx::migrate::MigrateError::Execute(error))
            | Self::Migrate(sqlx::migrate::MigrateError::ExecuteMigration(error, _)) => database_kind(error),
            Self::Migrate(_) => ErrorKind::Unexpected,
            Self::Shared(error) => error.kind(),
        }
    }

    /// What to do next, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { suggestion: Some(name), .. } => Some(format!("did you mean {name:?}?")),
            Self::NotFound { kind, .. } => match *kind {
                "tenant" | "plan" => Some(format!("`tenantctl {kind} list` shows what there is")),
                "user" => Some("`tenantctl user list TENANT` shows who there is".into()),
                "metric" => Some("`tenantctl metric list` shows what is counted".into()),
                "override" => Some("`tenantctl limit list` shows what there is".into()),
                "check" => Some("`tenantctl rls checks` shows what there is".into()),
                "table" => Some("name it with its schema, in double quotes where it is not plain lower case".into()),
                _ => None,
            },
            Self::Conflict { hint, .. }
            | Self::Invalid { hint, .. }
            | Self::Refused { hint, .. }
            | Self::Configuration { hint, .. }
            | Self::Script { hint, .. } => hint.clone(),
            Self::LimitExceeded { tenant, .. } => Some(format!(
                "`tenantctl usage stats {tenant}` shows what is used, `tenantctl tenant update {tenant} --plan …` moves \
                 to a larger plan, `tenantctl limit set {tenant} …` raises this limit alone"
            )),
            Self::PlanTooSmall { .. } => Some("release usage first, or choose a larger plan".into()),
            Self::SchemaVersion { hint, .. } => Some(hint.clone()),
            Self::NoDatabase => Some(
                "name one with --url, TENANTCTL_URL or DATABASE_URL, --profile, libpq's PGHOST or PGDATABASE, or run a \
                 private server with --embedded"
                    .into(),
            ),
            Self::Database(error) => database_hint(error),
            Self::Shared(error) => error.hint(),
            // An embedded server's errors say what to do in their own words.
            Self::Embedded(_) | Self::BadData { .. } | Self::Migrate(_) => None,
        }
    }

    /// The facts of the failure, for programs.
    pub fn details(&self) -> Value {
        match self {
            Self::NotFound { kind, name, suggestion } => {
                json!({ "kind": kind, "name": name, "suggestion": suggestion })
            }
            Self::Conflict { kind, name, .. } => json!({ "kind": kind, "name": name }),
            Self::Invalid { field, value, reason, .. } => {
                json!({ "field": field, "value": value, "reason": reason })
            }
            Self::LimitExceeded { tenant, metric, amount, used, limit, plan, .. } => json!({
                "tenant": tenant, "metric": metric, "amount": amount, "used": used, "limit": limit,
                "remaining": (limit - used).max(0), "plan": plan, "outcome": "rejected",
            }),
            Self::PlanTooSmall { tenant, plan, excesses } => {
                json!({ "tenant": tenant, "plan": plan, "excesses": excesses })
            }
            Self::Script { file, line, .. } => json!({ "file": file, "line": line }),
            Self::Database(error) => match error.as_database_error() {
                Some(error) => json!({ "sqlstate": error.code() }),
                None => json!({}),
            },
            Self::Shared(error) => error.details(),
            _ => json!({}),
        }
    }
}

fn embedded_kind(error: &embedded::Error) -> ErrorKind {
    match error {
        embedded::Error::OtherMajor { .. } => ErrorKind::Invalid,
        embedded::Error::DirOpenToOthers { .. } => ErrorKind::Refused,
        _ => ErrorKind::Unreachable,
    }
}

fn database_kind(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        // Whatever answered does not speak PostgreSQL's protocol.
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => ErrorKind::Unreachable,
        sqlx::Error::Configuration(_) => ErrorKind::Invalid,
        sqlx::Error::Database(error) => match error.code().as_deref().unwrap_or_default() {
            "42501" => ErrorKind::PermissionDenied,
            // A wrong password, an unknown role or an unknown database at connection time; the server going away.
            "28P01" | "28000" | "3D000" | "53300" | "57P01" | "57P02" | "57P03" | "08000" | "08003"
            | "08006" => ErrorKind::Unreachable,
            // Somebody else changed the same rows, or holds the lock.
            "40001" | "40P01" | "55P03" | "23505" => ErrorKind::Conflict,
            "TN010" => ErrorKind::Refused,
            _ => ErrorKind::Unexpected,
        },
        _ => ErrorKind::Unexpected,
    }
}

const TLS_HINT: &str =
    "the connection does not satisfy sslmode: name the server's CA with sslrootcert, or choose another mode";

fn database_hint(error: &sqlx::Error) -> Option<String> {
    let error = match error {
        sqlx::Error::Tls(_) => return Some(TLS_HINT.into()),
        // rustls refuses a certificate as invalid data.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            return Some(TLS_HINT.into());
        }
        sqlx::Error::Io(_) => return Some("is the server running, and are host and port right?".into()),
        sqlx::Error::Database(error) => error,
        _ => return None,
    };
    match error.code().as_deref().unwrap_or_default() {
        "28P01" | "28000" => Some("check the user and password (PGPASSWORD, .pgpass or the URL)".into()),
        "42501" => Some("connect as a superuser, or as a member of the control plane's owner role".into()),
        "57014" => Some("it took too long: raise --statement-timeout".into()),
        "55P03" | "40P01" | "40001" => Some("somebody else was changing the same objects: try again".into()),
        _ => {
            error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().and_then(|e| e.hint()).map(Into::into)
        }
    }
}
