//! The terminal as it was found, to be left like that.

use std::io::{self, IsTerminal, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The modes of the terminal on standard input.
pub(crate) struct Terminal(Option<Termios>);

impl Terminal {
    /// Looks at the terminal before a prompt changes anything.
    pub(crate) fn remember() -> Self {
        Self(if io::stdin().is_terminal() { tcgetattr(io::stdin()).ok() } else { None })
    }

    /// Undoes what an interrupted prompt or progress bar left: raw mode and a hidden cursor.
    pub(crate) fn restore(&self) {
        if let Some(modes) = &self.0 {
            // A terminal that is gone by now needs no mending.
            let _gone = tcsetattr(io::stdin(), OptionalActions::Now, modes);
        }
        let mut stderr = io::stderr().lock();
        if stderr.is_terminal() {
            let _gone = stderr.write_all(b"\x1b[?25h");
        }
    }
}
