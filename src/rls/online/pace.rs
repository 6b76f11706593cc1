//! How long an online setup waits for others before it tries again, and when it gives up.

use std::time::Duration;

use uuid::Uuid;

use crate::{Error, ErrorKind, Result};

/// The first pause between two tries; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How an online setup waits for the locks that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Longest that a statement waits for a lock that others queue behind, and so the longest that these wait.
    pub lock_timeout: Duration,
    /// How often each statement is tried again, after pauses that grow.
    pub retries: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { lock_timeout: Duration::from_secs(2), retries: 10 }
    }
}

impl Pace {
    pub(super) fn check(self) -> Result<()> {
        if self.lock_timeout.as_millis() > 0 {
            return Ok(());
        }
        Err(Error::Invalid {
            field: "lock timeout",
            value: format!("{:?}", self.lock_timeout),
            reason: "without one, whoever uses a table queues behind a setup that waits for it".into(),
            hint: Some("give --online a lock timeout of a few seconds, or leave it out".into()),
        })
    }

    /// The pause after so many tries: of random length, so that two that met do not meet again.
    pub(super) fn pause(self, failed: u32) -> Duration {
        let longest = Self::longest_pause(failed);
        // Between half of it and all of it.
        let chance = u32::from(Uuid::new_v4().as_bytes()[0]);
        longest * (256 + chance) / 512
    }

    /// How long what makes nobody queue (the building of an index) waits for others: as long as all tries together.
    pub(super) fn patience(self) -> Duration {
        (1..=self.retries.min(1000)).fold(self.lock_timeout, |sum, failed| {
            sum.saturating_add(Self::longest_pause(failed)).saturating_add(self.lock_timeout)
        })
    }

    /// A lock timeout that is over before PostgreSQL's `deadlock_timeout`, as it is unless somebody changed it.
    pub(super) fn early(self) -> Duration {
        self.lock_timeout.min(Duration::from_millis(900))
    }

    fn longest_pause(failed: u32) -> Duration {
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1))).min(LONGEST_PAUSE)
    }
}

/// Whether an error says that others were in the way, and trying again can help.
pub(super) fn is_busy(error: &Error) -> bool {
    error.kind() == ErrorKind::Conflict
}

/// The SQLSTATE of an error of the database.
pub(super) fn state(error: &Error) -> Option<String> {
    match error {
        Error::Database(error) => error.as_database_error()?.code().map(|code| code.into_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let pace = Pace::default();
        for (failed, longest) in [(1, 500), (2, 1000), (3, 2000), (10, 15_000), (100, 15_000)] {
            let pause = pace.pause(failed).as_millis();
            assert!((longest / 2..=longest).contains(&pause), "{failed}: {pause}");
        }
        let no_retry = Pace { retries: 0, ..pace };
        assert_eq!(no_retry.patience(), Duration::from_secs(2));
        assert_eq!(Pace { retries: 2, ..pace }.patience(), Duration::from_millis(3 * 2000 + 500 + 1000));
        assert!(Pace { lock_timeout: Duration::ZERO, ..pace }.check().is_err());
    }
}
