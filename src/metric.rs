//! Metrics: what is counted, and how.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::suggest::one_of;
use crate::tenant::BillingDay;
use crate::unit::Unit;
use crate::{Error, Result};

/// Whether it goes up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It goes up and down: events that exist.
    Gauge,
    /// It only grows within its period: requests served.
    Counter,
}

/// When counting begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// Never.
    #[default]
    Never,
    /// Every day, at 00:00 UTC.
    Daily,
    /// Every month, at 00:00 UTC of a day.
    Monthly,
}

/// What a counter makes of the amounts of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Their sum.
    #[default]
    Sum,
    /// The largest; each is held against the limit by itself.
    Max,
}

/// Where the figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Callers report it.
    #[default]
    Reported,
    /// The control plane counts it from the tenant's members.
    Memberships,
    /// Triggers on the platform's tables count it.
    Meter,
}

macro_rules! words {
    ($type:ident, $field:literal, $($variant:ident $word:literal),+) => {
        impl $type {
            /// Its name in SQL, JSON and YAML.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                one_of($field, text, &[$(($word, Self::$variant)),+])
            }
        }
    };
}
words!(Kind, "kind", Gauge "gauge", Counter "counter");
words!(Reset, "reset", Never "never", Daily "daily", Monthly "monthly");
words!(Aggregation, "aggregation", Sum "sum", Max "max");
words!(Source, "source", Reported "reported", Memberships "memberships", Meter "meter");

/// Something that is counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metric {
    /// Its key.
    pub key: String,
    /// Its name, for people.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// Whether it goes up and down.
    pub kind: Kind,
    /// When counting begins anew.
    pub reset: Reset,
    /// What becomes of the amounts of a period.
    pub aggregation: Aggregation,
    /// Where the figure comes from.
    pub source: Source,
    /// The limit where a plan says nothing of it; none for unlimited.
    pub default: Option<i64>,
    /// Whether more than that limit is admitted, and marked.
    pub soft: bool,
    /// The day of the month that monthly periods begin on, where a tenant has no billing day of its own.
    pub anchor_day: BillingDay,
}

/// All metrics, in the catalogue's order.
///
/// # Errors
/// [`Error::Database`].
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Metric>> {
    let rows = sqlx::query_file!("sql/metric/list.sql").fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Metric {
                unit: row.unit.parse()?,
                kind: row.kind.parse()?,
                reset: row.reset.parse()?,
                aggregation: row.aggregation.parse()?,
                source: row.source.parse()?,
                anchor_day: BillingDay::from_database(row.anchor_day)?,
                key: row.key,
                name: row.name,
                default: row.default_limit,
                soft: row.default_soft,
            })
        })
        .collect()
}
