//! Meters: what the platform's own tables say is used, counted by triggers in the transaction that writes to them.

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::postgres::types::Oid;
use time::OffsetDateTime;

use super::find_metric;
use crate::change::{Change, Outcome};
use crate::rls::{explain, table};
use crate::suggest::{closest, one_of};
use crate::{Error, Result, audit};

/// A meter to attach.
#[derive(Debug, Clone)]
pub struct NewMeter {
    /// Key of the metric.
    pub metric: String,
    /// The table, as a person types it.
    pub table: String,
    /// The column that says whose a row is; none for the one the table is under isolation by, else `tenant_id`.
    pub tenant_column: Option<String>,
    /// The column to sum; none to count rows.
    pub sum_column: Option<String>,
}

/// Whether a meter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Every write to the table is counted.
    Counting,
    /// A partition has no triggers, some are disabled, a column is gone or of another type, or the table became a part of
    /// another, unlogged or a view: attach it again, which says what is in the way.
    Incomplete,
    /// The table was dropped.
    Gone,
}

impl State {
    /// Its name in JSON and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counting => "counting",
            Self::Incomplete => "incomplete",
            Self::Gone => "gone",
        }
    }
}

/// A table that a metric is counted from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Meter {
    /// Key of the metric.
    pub metric: String,
    /// The table with its schema, quoted as in SQL.
    pub table: String,
    /// The column that says whose a row is.
    pub tenant_column: String,
    /// The column that is summed; none where rows are counted.
    pub sum_column: Option<String>,
    /// Whether it counts.
    pub state: State,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub attached_at: OffsetDateTime,
    /// Who attached it.
    pub attached_by: String,
    #[serde(skip)]
    relation: Oid,
}

/// What attaching a meter led to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attached {
    /// The meter.
    #[serde(flatten)]
    pub meter: Meter,
    /// What the table holds of no tenant, which is not counted; none where nothing changed, and nothing was read.
    pub unassigned: Option<i64>,
    /// How many tenants use more than a hard limit of theirs: they keep it, and get no more.
    pub tenants_over: i64,
}

/// Counts a metric from a table from now on, starting with what it holds, as the connecting role, who has to own the table
/// and see all of its rows. Nobody writes to the table until the transaction ends.
///
/// # Errors
/// [`Error::NotFound`] for the metric or the table, [`Error::Invalid`] for a table or column that cannot be metered,
/// [`Error::Refused`] for a metric that cannot be counted from a table, or rows of tenants that there are not.
pub async fn attach(connection: &mut PgConnection, new: &NewMeter) -> Result<Change<Attached>> {
    let relation = table(connection, &new.table).await?;
    own_names(connection).await?;
    let metric = find_metric(connection, &new.metric).await?.key;
    let done = sqlx::query_file!(
        "sql/usage/meter/attach.sql",
        metric,
        relation,
        new.tenant_column.as_deref(),
        new.sum_column.as_deref()
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(|error| match error.as_database_error().and_then(|e| e.code()).as_deref() {
        Some("22P02") => Error::Refused {
            what: format!("{} holds tenants that are no UUIDs", new.table),
            hint: Some("meter a column that names tenants of the control plane".into()),
        },
        _ => explain(error, &new.table),
    })?;
    let outcome = one_of(
        "outcome",
        &done.outcome,
        &[("created", Outcome::Created), ("updated", Outcome::Updated), ("unchanged", Outcome::Unchanged)],
    )?;
    let tenants_over =
        sqlx::query_file_scalar!("sql/usage/meter/over.sql", metric).fetch_one(&mut *connection).await?;
    let meters = list(connection, Some(&metric)).await?;
    let Some(meter) = meters.into_iter().find(|meter| meter.relation == relation) else {
        return Err(absent(&metric, &new.table, &[]));
    };
    if outcome != Outcome::Unchanged {
        record(connection, "usage.meter.attach", &meter).await?;
    }
    Ok(Change { outcome, value: Attached { meter, unassigned: done.unassigned, tenants_over } })
}

/// Ends the counting of a metric from a table, or from all of its tables where none is named. The counters stay as they
/// are, and callers may report again what no table counts.
///
/// # Errors
/// [`Error::NotFound`] for the metric, or (of kind `meter`) where it is not counted from there.
pub async fn detach(
    connection: &mut PgConnection,
    metric: &str,
    from: Option<&str>,
) -> Result<Change<Vec<Meter>>> {
    let metric = find_metric(connection, metric).await?.key;
    let meters = list(connection, Some(&metric)).await?;
    let chosen: Vec<Meter> = match from {
        None => meters.clone(),
        // One that was dropped is known by its name alone.
        Some(name) => match meters.iter().find(|meter| meter.table == name) {
            Some(meter) => vec![meter.clone()],
            None => {
                let relation = table(connection, name).await?;
                meters.iter().filter(|meter| meter.relation == relation).cloned().collect()
            }
        },
    };
    if chosen.is_empty() {
        return Err(absent(&metric, from.unwrap_or(&metric), &meters));
    }
    own_names(connection).await?;
    // Tables are locked in the order in which attaching locks them.
    let mut ordered: Vec<&Meter> = chosen.iter().collect();
    ordered.sort_by_key(|meter| meter.relation.0);
    for meter in ordered {
        let gone = sqlx::query_file_scalar!("sql/usage/meter/detach.sql", metric, meter.relation)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| explain(error, &meter.table))?;
        crate::change::one_row("meter", &meter.table, gone.unsigned_abs())?;
        record(connection, "usage.meter.detach", meter).await?;
    }
    Ok(Change { outcome: Outcome::Removed, value: chosen })
}

/// The meters of a metric, or all.
///
/// # Errors
/// [`Error::Database`].
pub async fn list(connection: &mut PgConnection, metric: Option<&str>) -> Result<Vec<Meter>> {
    let rows = sqlx::query_file!("sql/usage/meter/list.sql", metric).fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Meter {
                metric: row.metric,
                table: row.table,
                tenant_column: row.tenant_column,
                sum_column: row.sum_column,
                state: one_of(
                    "state",
                    &row.state,
                    &[
                        ("counting", State::Counting),
                        ("incomplete", State::Incomplete),
                        ("gone", State::Gone),
                    ],
                )?,
                attached_at: row.attached_at,
                attached_by: row.attached_by,
                relation: row.relation,
            })
        })
        .collect()
}

/// Once the person's names are looked up, names mean PostgreSQL's own for the rest of the transaction.
async fn own_names(connection: &mut PgConnection) -> Result<()> {
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog, pg_temp").execute(connection).await?;
    Ok(())
}

fn absent(metric: &str, table: &str, meters: &[Meter]) -> Error {
    Error::NotFound {
        kind: "meter",
        name: format!("{metric} of {table}"),
        suggestion: closest(table, meters.iter().map(|meter| meter.table.as_str())),
    }
}

async fn record(connection: &mut PgConnection, action: &str, meter: &Meter) -> Result<()> {
    let details = serde_json::json!({
        "metric": meter.metric, "table": meter.table, "tenant_column": meter.tenant_column, "sum_column": meter.sum_column,
    });
    audit::record(connection, action, None, details).await
}
