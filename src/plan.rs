//! Plans: what a tenant on them may use, and which features it has.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::suggest::{closest, one_of};
use crate::unit::Unit;
use crate::{Error, Result};

/// A catalogue of metrics, features and plans, as it is written in YAML.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// What is counted, by key.
    pub metrics: Vec<MetricDefinition>,
    /// What can be switched on.
    pub features: Vec<FeatureDefinition>,
    /// The plans, smallest first. A tenant that names none gets the first.
    pub plans: Vec<PlanDefinition>,
}

/// A metric of a [`Catalogue`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricDefinition {
    /// Lower case, digits and underscores.
    pub key: String,
    /// For people.
    pub name: String,
    /// `count` or `bytes`.
    pub unit: Unit,
    /// `gauge` or `counter`.
    pub kind: String,
    /// `never` (default), `daily` or `monthly`.
    #[serde(default = "never")]
    pub reset: String,
    /// `reported` (default) or `memberships`.
    #[serde(default = "reported")]
    pub source: String,
}

fn never() -> String {
    "never".into()
}

fn reported() -> String {
    "reported".into()
}

/// A feature of a [`Catalogue`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureDefinition {
    /// Lower case, digits and underscores.
    pub key: String,
    /// For people.
    pub name: String,
}

/// A plan of a [`Catalogue`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanDefinition {
    /// Lower case, digits and underscores.
    pub key: String,
    /// For people.
    pub name: String,
    /// A number, a size such as `5GB`, or `unlimited`, by metric.
    pub limits: BTreeMap<String, serde_json::Value>,
    /// Keys of features.
    pub features: BTreeSet<String>,
}

impl Catalogue {
    /// The catalogue that a database gets which has none.
    ///
    /// # Errors
    /// None in a released build: the catalogue is compiled in and tested.
    pub fn default_plans() -> Result<Self> {
        serde_yaml::from_str(include_str!("../sql/plan/catalogue.yaml")).map_err(|error| {
            Error::Configuration { what: format!("the default plan catalogue is wrong: {error}"), hint: None }
        })
    }
}

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

/// Writes a catalogue into a database that has none.
///
/// # Errors
/// [`Error::Configuration`] where a plan names a metric or a feature that the catalogue lacks, or a limit is no limit.
pub async fn apply(connection: &mut PgConnection, catalogue: &Catalogue) -> Result<()> {
    for (position, metric) in (0..).zip(&catalogue.metrics) {
        sqlx::query_file!(
            "sql/plan/insert_metric.sql",
            metric.key,
            metric.name,
            metric.unit.as_str(),
            metric.kind,
            metric.reset,
            metric.source,
            position
        )
        .execute(&mut *connection)
        .await?;
    }
    for (position, feature) in (0..).zip(&catalogue.features) {
        sqlx::query_file!("sql/plan/insert_feature.sql", feature.key, feature.name, position)
            .execute(&mut *connection)
            .await?;
    }
    for (position, plan) in (0..).zip(&catalogue.plans) {
        sqlx::query_file!("sql/plan/insert_plan.sql", plan.key, plan.name, position, position == 0)
            .execute(&mut *connection)
            .await?;
        for (metric, value) in &plan.limits {
            let wrong = |reason: String| Error::Configuration {
                what: format!("plan {}: limit of {metric}: {reason}", plan.key),
                hint: None,
            };
            let unit = catalogue
                .metrics
                .iter()
                .find(|m| m.key == *metric)
                .ok_or_else(|| wrong("there is no such metric".into()))?
                .unit;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let limit = parse_limit(&text, unit).map_err(wrong)?;
            sqlx::query_file!("sql/plan/insert_limit.sql", plan.key, metric, limit)
                .execute(&mut *connection)
                .await?;
        }
        let features: Vec<String> = plan.features.iter().cloned().collect();
        if let Some(unknown) =
            features.iter().find(|f| catalogue.features.iter().all(|known| known.key != **f))
        {
            return Err(Error::Configuration {
                what: format!("plan {}: there is no feature {unknown}", plan.key),
                hint: None,
            });
        }
        sqlx::query_file!("sql/plan/insert_features.sql", plan.key, &features)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
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
    fn the_default_catalogue_is_the_one_that_was_asked_for() {
        let catalogue = Catalogue::default_plans().unwrap();
        let keys: Vec<_> = catalogue.plans.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, ["free", "starter", "professional", "enterprise"]);
        let has = |feature: &str| -> Vec<&str> {
            catalogue.plans.iter().filter(|p| p.features.contains(feature)).map(|p| p.key.as_str()).collect()
        };
        assert_eq!(has("custom_branding"), ["starter", "professional", "enterprise"]);
        assert_eq!(has("sso_integration"), ["enterprise"]);
        assert_eq!(has("api_access"), ["professional", "enterprise"]);
        assert_eq!(has("white_label"), ["enterprise"]);
    }

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
