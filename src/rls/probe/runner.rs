//! Runs many statements in one round trip, each in a subtransaction of its own, and tells what came of each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};

use crate::db::quote::{literal, trusted};
use crate::{Error, Result};

const RUN: &str = include_str!("../../../sql/rls/probe/run.sql");
/// How many statements go into one round trip: the server's statement timeout counts for all of them together.
const ROUND: usize = 200;

/// Statements to try, in order, until one is not refused.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Item {
    /// The statements.
    #[serde(rename = "try")]
    pub(crate) attempts: Vec<String>,
    /// Whether they return one value.
    pub(crate) returns: bool,
    /// Whether the effect of the one that went through stays until the end of the transaction.
    pub(crate) keep: bool,
    /// Statements that clear the way first, with the connection's own rights; they may fail.
    pub(crate) prep: Vec<String>,
    /// The role that runs the statements, where it is not the connection's own.
    pub(crate) role: Option<String>,
    /// Settings to set before.
    #[serde(rename = "set")]
    pub(crate) settings: BTreeMap<String, String>,
    /// What to ask after a statement that touched rows.
    pub(crate) oracle: Option<String>,
    /// Whether to ask even where no row was touched, as far as the statement tells.
    pub(crate) always: bool,
    /// The role that asks.
    #[serde(rename = "orole")]
    pub(crate) oracle_role: Option<String>,
    /// Settings to ask in.
    #[serde(rename = "oset")]
    pub(crate) oracle_settings: BTreeMap<String, String>,
}

/// An error that a statement ended in.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) constraint: String,
    pub(crate) column: String,
}

/// What came of an item.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Outcome {
    /// Which of the statements went through.
    pub(crate) attempt: Option<usize>,
    /// How many rows it touched.
    pub(crate) touched: i64,
    /// What it returned.
    pub(crate) answer: Option<String>,
    /// What the oracle said after.
    pub(crate) seen: Option<String>,
    /// What the oracle said between the preparation and the statement, where there was a preparation.
    pub(crate) before: Option<String>,
    /// Whether all of the preparation worked.
    pub(crate) prepped: bool,
    /// Why the others were refused.
    pub(crate) refused: Vec<Refusal>,
}

impl Outcome {
    /// The last error, where nothing went through.
    pub(crate) fn error(&self) -> Option<&Refusal> {
        if self.attempt.is_some() { None } else { self.refused.last() }
    }
}

/// Runs the items, in order. After a statement that ran into the timeout the rest goes on in the next round.
pub(crate) async fn run(connection: &mut PgConnection, items: &[Item]) -> Result<Vec<Outcome>> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(items.len());
    while outcomes.len() < items.len() {
        let rest = &items[outcomes.len()..];
        let round = &rest[..rest.len().min(ROUND)];
        let bad = |reason: String| Error::Database(sqlx::Error::Decode(reason.into()));
        let text = serde_json::to_string(round).map_err(|error| bad(error.to_string()))?;
        let sql = format!(
            "SET LOCAL tenancy.probe_items = {};{RUN};SELECT pg_catalog.current_setting('tenancy.probe_results')",
            literal(&text)
        );
        let rows = connection.fetch_all(sqlx::raw_sql(trusted(sql))).await?;
        let answer: String = match rows.last() {
            Some(row) => row.try_get(0)?,
            None => return Err(bad("the probe returned nothing".into())),
        };
        let round: Vec<Outcome> = serde_json::from_str(&answer).map_err(|error| bad(error.to_string()))?;
        if round.is_empty() {
            return Err(bad("the probe ran nothing".into()));
        }
        outcomes.extend(round);
    }
    Ok(outcomes)
}
