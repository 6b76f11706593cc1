//! The retention of the ledger.

use std::time::Duration;

use serde::Serialize;

use crate::db::Session;
use crate::{Error, Result, audit};

/// What [`prune`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Parts of the ledger that were dropped.
    pub dropped: u64,
    /// Events that they had.
    pub events: i64,
    /// Whether a new part was opened.
    pub opened: bool,
}

/// Drops the parts of the ledger that are older than usage is to be kept, and opens a new one where it is time for that:
/// a part lasts for a third of `keep`, so usage is kept for `keep` up to 4/3 of it, and then by day only. Keys are known as
/// long as their events. Alerts that are older than `keep` go, too, but of a metric that never resets the newest of each
/// threshold that is still reached. Each part goes in a transaction of its own: what was done stays done.
///
/// # Errors
/// [`Error::Invalid`] where less than a day is to be kept; [`Error::Database`].
pub async fn prune(session: &mut Session, keep: Duration, dry_run: bool) -> Result<Pruned> {
    if keep < Duration::from_secs(86_400) {
        return Err(Error::invalid(
            "keep",
            format!("{}s", keep.as_secs()),
            "usage has to be kept for a day at least",
        ));
    }
    let seconds = keep.as_secs_f64();
    let mut transaction = session.begin_as_owner().await?;
    let opened =
        sqlx::query_file!("sql/usage/open_epoch.sql", seconds).fetch_one(&mut *transaction).await?.opened;
    sqlx::query_file!("sql/usage/drop_reservations.sql", seconds).fetch_one(&mut *transaction).await?;
    sqlx::query_file!("sql/usage/drop_alerts.sql", seconds).execute(&mut *transaction).await?;
    let old = sqlx::query_file!("sql/usage/old_epochs.sql", seconds).fetch_all(&mut *transaction).await?;
    if dry_run {
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    let mut pruned = Pruned { dropped: 0, events: 0, opened };
    for epoch in old.into_iter().map(|row| row.epoch) {
        let mut transaction = session.begin_as_owner().await?;
        let events =
            sqlx::query_file!("sql/usage/drop_epoch.sql", epoch).fetch_one(&mut *transaction).await?.events;
        pruned.dropped += 1;
        pruned.events += events;
        if dry_run {
            transaction.rollback().await?;
        } else {
            let details = serde_json::json!({ "epoch": epoch, "events": events });
            audit::record(&mut transaction, "usage.prune", None, details).await?;
            transaction.commit().await?;
        }
    }
    Ok(pruned)
}
