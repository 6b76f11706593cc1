//! Plans: what a tenant on them may use, and which features it has.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;
use sqlx::PgConnection;

use crate::suggest::{closest, one_of};
use crate::unit::Unit;
use crate::{Error, Result};

mod apply;
mod catalogue;
pub(crate) use apply::write;
pub use apply::{Applied, apply};
pub use catalogue::{Catalogue, FeatureDefinition, LimitDefinition, MetricDefinition, PlanDefinition};

/// A plan, as it is in the database and the environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Its key.
    pub key: String,
    /// Its name, for people.
    pub name: String,
    /// Whether tenants get it that name none.
    pub is_default: bool,
    /// Limits by metric, in the catalogue's order.
    pub limits: Vec<PlanLimit>,
    /// Keys of the features that it switches on.
    pub features: Vec<String>,
    /// How many tenants are on it, deleted ones left out.
    pub tenant_count: i64,
}

/// What a plan allows of one metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanLimit {
    /// Key of the metric.
    pub metric: String,
    /// What `limit` counts.
    pub unit: Unit,
    /// Most that may be used; none for unlimited.
    pub limit: Option<i64>,
    /// Where the limit comes from.
    pub source: LimitSource,
    /// Whether more than the limit is admitted, and marked.
    pub soft: bool,
}

/// Where a limit comes from, what wins first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    /// The tenant's own, until it expires.
    Override,
    /// A variable `<PLAN>_PLAN_<METRIC>`.
    Environment,
    /// The plan in the database.
    Plan,
    /// The metric's default, where the plan says nothing of it.
    Default,
}

impl LimitSource {
    /// All of them, what wins first.
    pub const ALL: [Self; 4] = [Self::Override, Self::Environment, Self::Plan, Self::Default];

    /// Its name in SQL, JSON and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Override => "override",
            Self::Environment => "environment",
            Self::Plan => "plan",
            Self::Default => "default",
        }
    }
}

impl FromStr for LimitSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        one_of("source", text, &Self::ALL.map(|s| (s.as_str(), s)))
    }
}

/// Limits that the environment sets in place of the plans' own: `FREE_PLAN_EVENTS=3`, `STARTER_PLAN_STORAGE=10GB`,
/// `ENTERPRISE_PLAN_EVENTS=unlimited`. They hold for the process that has them.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentLimits(BTreeMap<String, String>);

impl EnvironmentLimits {
    /// Picks the variables out of an environment.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().filter(|(name, _)| name.contains("_PLAN_")).collect())
    }

    /// Whether it has a say in anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name of the variable for a metric of a plan.
    pub fn variable(plan: &str, metric: &str) -> String {
        format!("{plan}_PLAN_{metric}").to_uppercase()
    }

    /// The limit for a metric of a plan: none where the environment has no say, `Some(None)` for unlimited.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the variable holds no limit.
    pub fn get(&self, plan: &str, metric: &str, unit: Unit) -> Result<Option<Option<i64>>> {
        let name = Self::variable(plan, metric);
        let Some(text) = self.0.get(&name) else { return Ok(None) };
        parse_limit(text, unit).map(Some).map_err(|reason| Error::Configuration {
            what: format!("environment variable {name} is {text:?}: {reason}"),
            hint: Some("set a whole number, a size such as 5GB where bytes are counted, or unlimited".into()),
        })
    }
}

/// Reads a limit: a whole number in the metric's unit, a size where bytes are counted, or `unlimited`.
pub(crate) fn parse_limit(text: &str, unit: Unit) -> Result<Option<i64>, String> {
    if text.trim().eq_ignore_ascii_case("unlimited") {
        return Ok(None);
    }
    match unit.parse_amount(text) {
        Ok(amount) if amount >= 0 => Ok(Some(amount)),
        Ok(_) => Err("a limit cannot be negative".into()),
        Err(reason) => Err(reason),
    }
}

/// Whether the database has no plans at all.
///
/// # Errors
/// [`Error::Database`].
pub async fn is_empty(connection: &mut PgConnection) -> Result<bool> {
    Ok(sqlx::query_file_scalar!("sql/plan/is_empty.sql").fetch_one(connection).await?)
}

/// All plans, smallest first.
///
/// # Errors
/// [`Error::Database`]; [`Error::Configuration`] where a variable of the environment holds no limit.
pub async fn list(connection: &mut PgConnection, environment: &EnvironmentLimits) -> Result<Vec<Plan>> {
    let rows = sqlx::query_file!("sql/plan/list.sql").fetch_all(&mut *connection).await?;
    let limits = sqlx::query_file!("sql/plan/limits.sql").fetch_all(&mut *connection).await?;
    let mut plans = Vec::with_capacity(rows.len());
    for row in rows {
        let mut plan = Plan {
            key: row.key,
            name: row.name,
            is_default: row.is_default,
            limits: Vec::new(),
            features: row.features,
            tenant_count: row.tenant_count,
        };
        for limit in limits.iter().filter(|l| l.plan == plan.key) {
            let unit: Unit = limit.unit.parse()?;
            let (value, source, soft) = match environment.get(&plan.key, &limit.metric, unit)? {
                Some(value) => (value, LimitSource::Environment, false),
                None => (limit.limit_value, LimitSource::Plan, limit.soft),
            };
            plan.limits.push(PlanLimit { metric: limit.metric.clone(), unit, limit: value, source, soft });
        }
        plans.push(plan);
    }
    Ok(plans)
}

/// One plan.
///
/// # Errors
/// [`Error::NotFound`] with a suggestion; otherwise as [`list`].
pub async fn show(connection: &mut PgConnection, key: &str, environment: &EnvironmentLimits) -> Result<Plan> {
    let mut plans = list(connection, environment).await?;
    match plans.iter().position(|p| p.key == key) {
        Some(index) => Ok(plans.swap_remove(index)),
        None => Err(Error::NotFound {
            kind: "plan",
            name: key.into(),
            suggestion: closest(key, plans.iter().map(|p| p.key.as_str())),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_stands_in_for_a_plan() {
        let limits = EnvironmentLimits::from_variables(
            [
                ("FREE_PLAN_EVENTS", "3"),
                ("FREE_PLAN_STORAGE", "2GB"),
                ("FREE_PLAN_ADMINS", "unlimited"),
                ("STARTER_PLAN_EVENTS", "-1"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        assert_eq!(limits.get("free", "events", Unit::Count).unwrap(), Some(Some(3)));
        assert_eq!(limits.get("free", "storage", Unit::Bytes).unwrap(), Some(Some(2 << 30)));
        assert_eq!(limits.get("free", "admins", Unit::Count).unwrap(), Some(None));
        assert_eq!(limits.get("free", "participants", Unit::Count).unwrap(), None);
        let error = limits.get("starter", "events", Unit::Count).unwrap_err();
        assert!(error.to_string().contains("STARTER_PLAN_EVENTS"), "{error}");
    }
}
