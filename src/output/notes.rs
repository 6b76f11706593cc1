//! Standard error: notes, warnings, errors and progress.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

/// Writes to standard error. A closed standard error is nobody's failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notes {
    pub(crate) quiet: bool,
    pub(crate) colour: bool,
    /// Errors as JSON.
    pub(crate) json: bool,
}

impl Notes {
    /// Says what was done, unless only identifiers are wanted.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// What went wrong, why, and what to do next.
    pub(crate) fn error(
        &self,
        code: &str,
        message: &str,
        causes: &[String],
        hint: Option<&str>,
        details: &Value,
    ) {
        if self.json {
            let mut message = message.to_owned();
            for cause in causes {
                message.push_str(": ");
                message.push_str(cause);
            }
            let error =
                json!({ "error": { "code": code, "message": message, "hint": hint, "details": details } });
            self.line(&error.to_string());
            return;
        }
        self.line(&format!("{} {message}", self.label("error:", 31)));
        for cause in causes {
            self.line(&format!("{} {cause}", self.label("caused by:", 31)));
        }
        if let Some(hint) = hint {
            self.line(&format!("{} {hint}", self.label("hint:", 36)));
        }
    }

    fn label(&self, text: &str, colour: u8) -> String {
        if self.colour { format!("\u{1b}[1;{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to tell that standard error is closed.
        let _closed = writeln!(stderr, "{text}");
    }

    /// A bar for work of known length; hidden where standard error is no terminal.
    pub(crate) fn progress(&self, what: &str) -> Progress {
        let bar = ProgressBar::new(0);
        if self.quiet || !io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }
}

/// A progress bar that is gone once the work is.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn set(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }

    /// Says what is being done.
    pub(crate) fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }

    /// Writes above the bar.
    pub(crate) fn aside(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
