//! Exit codes: the one place where kinds of failure become numbers.

use std::error::Error as _;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use serde_json::json;
use tenancy::{Error, ErrorKind};

use crate::output::{Notes, Output, Printable};

/// What each exit code means, as `tenantctl help exit-codes` prints it.
pub(crate) const CODES: &[(u8, &str)] = &[
    (0, "done, or nothing to do"),
    (1, "unexpected failure"),
    (2, "wrong usage, invalid input or configuration"),
    (3, "not found"),
    (4, "conflict: it exists already, or changed meanwhile"),
    (5, "a check failed: findings, drift, or lines of a batch that were not accepted"),
    (6, "a plan limit or a feature refused it"),
    (7, "no database configured, or it cannot be reached"),
    (8, "the database refused permission"),
    (9, "the control plane's schema is missing, older or newer than this tool supports"),
    (10, "refused: consent missing or declined, or it would break a rule"),
    (130, "interrupted"),
];

/// Ctrl-C, SIGTERM or SIGHUP.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Unexpected => 1,
        ErrorKind::Invalid => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::Conflict => 4,
        ErrorKind::LimitExceeded => 6,
        ErrorKind::Unreachable => 7,
        ErrorKind::PermissionDenied => 8,
        ErrorKind::SchemaVersion => 9,
        ErrorKind::Refused => 10,
    }
}

/// Prints what a verb returned and gives its exit code.
pub(crate) fn finish(mut report: Box<dyn Printable>, output: &Output, notes: &Notes) -> ExitCode {
    match output.print(report.as_ref()) {
        // The reader of our output had enough; whether the check failed is another matter.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return fail(&error.into(), notes),
        Ok(()) => {}
    }
    for note in report.notes() {
        notes.note(&note);
    }
    match report.failure() {
        Some(error) => fail(&error, notes),
        None if report.check_failed() => ExitCode::from(5),
        None => ExitCode::SUCCESS,
    }
}

/// Whether a failure is that somebody interrupted, by a signal or at a prompt.
pub(crate) fn is_interruption(error: &anyhow::Error) -> bool {
    let io_kind = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    error.downcast_ref::<Interrupted>().is_some() || io_kind == Some(io::ErrorKind::Interrupted)
}

/// Prints a failure and gives its exit code.
pub(crate) fn fail(error: &anyhow::Error, notes: &Notes) -> ExitCode {
    if is_interruption(error) {
        notes.error("interrupted", "interrupted", &[], None, &json!({}));
        return ExitCode::from(130);
    }
    let known = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let kind = known.map_or(ErrorKind::Unexpected, Error::kind);
    let mut causes: Vec<String> = Vec::new();
    let message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // A message that quotes its cause needs no line of its own for it.
        if !message.contains(&cause) && causes.iter().all(|other| !other.contains(&cause)) {
            causes.push(cause);
        }
    }
    let hint = known.and_then(Error::hint);
    let details = known.map_or_else(|| json!({}), Error::details);
    notes.error(kind.code(), &message, &causes, hint.as_deref(), &details);
    ExitCode::from(code(kind))
}

/// Prints clap's own errors and help.
pub(crate) fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        // --help and --version: a closed standard output is nobody's failure.
        let _closed = error.print();
        return ExitCode::SUCCESS;
    }
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let json = words.windows(2).any(|pair| matches!(pair, ["-o" | "--output", "json" | "ndjson"]))
        || words.iter().any(|word| {
            let bundle = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
            word.ends_with("json")
                && (word.starts_with("--output=") || bundle.is_some_and(|rest| rest.contains('o')))
        });
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let colour = super::colour(clap::ColorChoice::Auto, &io::stderr());
    let notes = Notes { quiet: false, colour, json };
    // A value that the library's own parsers refused: they know what was probably meant.
    match error.source().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(known) => {
            let hint = known.hint().unwrap_or_else(|| "see --help".into());
            notes.error(known.kind().code(), message, &[], Some(&hint), &known.details());
        }
        None if json => notes.error("usage", message, &[], Some("see --help"), &json!({ "text": text })),
        None => drop(error.print()),
    }
    ExitCode::from(2)
}
