//! A second connection that looks at what the first one waits for while it does.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use sqlx::PgConnection;

use super::Pace;
use crate::Result;

/// How often it looks, unless the lock timeout is over sooner.
const INTERVAL: Duration = Duration::from_millis(400);

/// What an online setup tells while it works.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// It begins with a table.
    Table {
        /// How many tables are done.
        done: usize,
        /// Of how many.
        of: usize,
        /// The table, quoted as SQL.
        name: &'a str,
    },
    /// It carries out a statement.
    Step {
        /// The table, quoted as SQL.
        table: &'a str,
        /// The statement.
        statement: &'a str,
    },
    /// It builds an index.
    Building {
        /// PostgreSQL's name for what it is doing.
        phase: &'a str,
        /// How much of that is done, where PostgreSQL tells.
        percent: Option<i64>,
    },
    /// It waits for others.
    Waiting {
        /// The table, quoted as SQL.
        table: &'a str,
        /// Whom for; none where they were gone before anybody looked.
        blockers: &'a [Blocker],
        /// After how long it tries again; `None` where it goes on as soon as they are done.
        pause: Option<Duration>,
    },
}

/// A session that an online setup waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Process id of its backend.
    pub pid: i32,
    /// The role that it logged in as.
    pub role: String,
    /// What it calls itself.
    pub application: String,
    /// What it does: `active`, `idle in transaction`, …
    pub state: String,
    /// Since when its transaction is open, in seconds.
    pub seconds: Option<i64>,
    /// The beginning of its last statement, as far as we may see it.
    pub query: String,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        let mut facts: Vec<String> = Vec::new();
        if !self.role.is_empty() {
            facts.push(format!("role {}", self.role));
        }
        if !self.application.is_empty() {
            facts.push(format!("application {}", self.application));
        }
        match (self.state.as_str(), self.seconds) {
            ("", _) => {}
            (state, Some(seconds)) => facts.push(format!("{state}, {seconds} s in its transaction")),
            (state, None) => facts.push(state.to_owned()),
        }
        if !facts.is_empty() {
            write!(f, " ({})", facts.join(", "))?;
        }
        if !self.query.is_empty() {
            write!(f, ": {}", self.query)?;
        }
        Ok(())
    }
}

/// Several of them in one line.
pub(super) fn told(blockers: &[Blocker]) -> String {
    blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What is told goes here.
pub(super) type Observer<'a> = dyn FnMut(Event<'_>) + Send + 'a;

/// The second connection.
pub(super) struct Watch<'a> {
    connection: &'a mut PgConnection,
    /// The backend that is watched.
    pid: i32,
    interval: Duration,
    /// Whom it waited for last.
    pub(super) blockers: Vec<Blocker>,
    pub(super) observe: &'a mut Observer<'a>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        connection: &'a mut PgConnection,
        pid: i32,
        pace: Pace,
        observe: &'a mut Observer<'a>,
    ) -> Self {
        let interval = INTERVAL.min(pace.lock_timeout / 3).max(Duration::from_millis(10));
        Self { connection, pid, interval, blockers: Vec::new(), observe }
    }

    /// Lets the first connection work, and notes whom it waits for. Where it makes nobody queue it waits long, so that
    /// is told at once.
    pub(super) async fn during<T>(
        &mut self,
        table: &str,
        patient: bool,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut work = pin!(work);
        self.blockers.clear();
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                () = tokio::time::sleep(self.interval) => {}
            }
            let found = sqlx::query_file_as!(Blocker, "sql/rls/online/blockers.sql", self.pid)
                .fetch_all(&mut *self.connection)
                .await?;
            if !found.is_empty() {
                let met = found.iter().any(|new| self.blockers.iter().all(|old| old.pid != new.pid));
                self.blockers = found;
                if patient && met {
                    (self.observe)(Event::Waiting { table, blockers: &self.blockers, pause: None });
                }
            } else if patient {
                let built = sqlx::query_file!("sql/rls/online/building.sql", self.pid)
                    .fetch_optional(&mut *self.connection)
                    .await?;
                if let Some(built) = built {
                    (self.observe)(Event::Building { phase: &built.phase, percent: built.percent });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_told_as_far_as_it_is_seen() {
        let hidden = Blocker {
            pid: 7,
            role: String::new(),
            application: String::new(),
            state: String::new(),
            seconds: None,
            query: String::new(),
        };
        assert_eq!(hidden.to_string(), "pid 7");
        let seen = Blocker {
            role: "app".into(),
            application: "billing".into(),
            state: "idle in transaction".into(),
            seconds: Some(12),
            query: "UPDATE t".into(),
            ..hidden
        };
        assert_eq!(
            seen.to_string(),
            "pid 7 (role app, application billing, idle in transaction, 12 s in its transaction): UPDATE t"
        );
    }
}
