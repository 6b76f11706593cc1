//! Brings the catalogue in the database in line with one in YAML. Nothing is deleted: what the file leaves out stays.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use super::catalogue::{Catalogue, MetricDefinition, PlanDefinition};
use super::{EnvironmentLimits, PlanLimit};
use crate::audit;
use crate::change::Outcome;
use crate::metric::{self, Aggregation, Kind, Metric, Reset, Source};
use crate::tenant::BillingDay;
use crate::unit::Unit;
use crate::{Error, Result};

/// What became of one thing of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// `metric`, `feature` or `plan`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// Whether anything changed.
    pub outcome: Outcome,
    /// What, in words.
    pub changes: Vec<String>,
    /// Of a plan that changed: how many tenants use more than a hard limit of theirs now. They keep it, and get no more.
    pub tenants_over: Option<i64>,
}

/// Adds and changes metrics, features, plans and their limits, and brings the counters of every tenant in line. What the
/// catalogue leaves out stays as it is.
///
/// # Errors
/// [`Error::Configuration`] where a plan names a metric or a feature that there is not, or a limit is no limit;
/// [`Error::Refused`] where a change would falsify what is counted.
pub async fn apply(connection: &mut PgConnection, catalogue: &Catalogue) -> Result<Vec<Applied>> {
    let all = write(connection, catalogue).await?;
    for applied in all.iter().filter(|applied| applied.outcome != Outcome::Unchanged) {
        let verb = if applied.outcome == Outcome::Created { "create" } else { "update" };
        let details = json!({ "key": applied.key, "changes": applied.changes });
        audit::record(connection, &format!("{}.{verb}", applied.kind), None, details).await?;
    }
    Ok(all)
}

/// The same for a database that is being made, where it is nobody's change.
pub(crate) async fn write(connection: &mut PgConnection, catalogue: &Catalogue) -> Result<Vec<Applied>> {
    sqlx::query_file!("sql/plan/change_limits.sql").fetch_one(&mut *connection).await?;
    let mut all = Vec::new();
    let mut defaults = Vec::new();
    let present = metric::list(connection).await?;
    let counted: Vec<String> =
        sqlx::query_file_scalar!("sql/metric/counted.sql").fetch_all(&mut *connection).await?;
    for definition in &catalogue.metrics {
        let before = present.iter().find(|m| m.key == definition.key);
        let after = defined(definition, before)?;
        let changes = before.map_or_else(Vec::new, |before| differences(before, &after));
        if before.map(|before| (before.default, before.soft)) != Some((after.default, after.soft)) {
            defaults.push(after.key.clone());
        }
        if after.source == Source::Meter && before.is_none_or(|b| b.source != Source::Meter) {
            return Err(Error::refused(
                format!("metric {}: no table is metered for it", after.key),
                format!(
                    "leave out its source, and run `tenantctl usage meter attach {} --table …`",
                    after.key
                ),
            ));
        }
        if let Some(before) = before {
            refuse_to_falsify(before, &after, &counted)?;
        }
        if after.source == Source::Memberships && before.is_none_or(|b| b.source != Source::Memberships) {
            refuse_uncounted(connection, &after).await?;
        }
        if before != Some(&after) {
            sqlx::query_file!(
                "sql/metric/upsert.sql",
                after.key,
                after.name,
                after.unit.as_str(),
                after.kind.as_str(),
                after.reset.as_str(),
                after.aggregation.as_str(),
                after.source.as_str(),
                after.default,
                after.soft,
                after.anchor_day.day()
            )
            .execute(&mut *connection)
            .await?;
        }
        all.push(applied("metric", &after.key, before.is_some(), changes));
    }

    let present = sqlx::query_file!("sql/plan/features.sql").fetch_all(&mut *connection).await?;
    for definition in &catalogue.features {
        let before = present.iter().find(|f| f.key == definition.key);
        let name = definition.name.trim();
        if before.is_none_or(|before| before.name != name) {
            sqlx::query_file!("sql/plan/upsert_feature.sql", definition.key, name)
                .execute(&mut *connection)
                .await?;
        }
        let changes = before.map_or_else(Vec::new, |before| renamed(&before.name, name));
        all.push(applied("feature", &definition.key, before.is_some(), changes));
    }

    let units: BTreeMap<String, Unit> =
        metric::list(connection).await?.into_iter().map(|metric| (metric.key, metric.unit)).collect();
    let features = sqlx::query_file!("sql/plan/features.sql").fetch_all(&mut *connection).await?;
    let present = super::list(connection, &EnvironmentLimits::default()).await?;
    let mut plans = Vec::new();
    for definition in &catalogue.plans {
        if let Some(unknown) =
            definition.features.iter().find(|wanted| features.iter().all(|known| known.key != **wanted))
        {
            return Err(wrong_plan(definition, format!("there is no feature {unknown}")));
        }
        let before = present.iter().find(|p| p.key == definition.key);
        let name = definition.name.trim();
        let mut changes = before.map_or_else(Vec::new, |before| renamed(&before.name, name));
        if before.is_none_or(|before| before.name != name) {
            sqlx::query_file!("sql/plan/upsert_plan.sql", definition.key, name)
                .execute(&mut *connection)
                .await?;
        }
        let limits = before.map_or(&[][..], |before| &before.limits);
        let changed = write_limits(connection, definition, limits, &units).await?;
        if !changed.is_empty() {
            plans.push(definition.key.clone());
        }
        changes.extend(changed);
        let known = before.map_or(&[][..], |before| &before.features);
        let added: Vec<String> =
            definition.features.iter().filter(|feature| !known.contains(feature)).cloned().collect();
        sqlx::query_file!("sql/plan/add_features.sql", definition.key, &added)
            .execute(&mut *connection)
            .await?;
        changes.extend(added.iter().map(|feature| format!("feature {feature}")));
        all.push(applied("plan", &definition.key, before.is_some(), changes));
    }
    if plans.is_empty() && defaults.is_empty() {
        return Ok(all);
    }
    sqlx::query_file!("sql/plan/refresh_limits.sql", &plans, &defaults).fetch_one(&mut *connection).await?;
    let over = sqlx::query_file!("sql/plan/overrun.sql", &plans).fetch_all(&mut *connection).await?;
    for applied in all.iter_mut().filter(|one| one.kind == "plan" && plans.contains(&one.key)) {
        applied.tenants_over =
            Some(over.iter().find(|o| o.plan == applied.key).map_or(0, |found| found.tenants));
    }
    Ok(all)
}

fn applied(kind: &'static str, key: &str, existed: bool, changes: Vec<String>) -> Applied {
    let outcome = match (existed, changes.is_empty()) {
        (false, _) => Outcome::Created,
        (true, false) => Outcome::Updated,
        (true, true) => Outcome::Unchanged,
    };
    Applied { kind, key: key.to_owned(), outcome, changes, tenants_over: None }
}

/// Writes the limits of a plan that differ; gives what changed, in words.
async fn write_limits(
    connection: &mut PgConnection,
    plan: &PlanDefinition,
    present: &[PlanLimit],
    units: &BTreeMap<String, Unit>,
) -> Result<Vec<String>> {
    let mut changes = Vec::new();
    for (metric, definition) in &plan.limits {
        let wrong = |reason: String| wrong_plan(plan, format!("limit of {metric}: {reason}"));
        let unit = *units.get(metric).ok_or_else(|| wrong("there is no such metric".into()))?;
        let limit = definition.value(unit).map_err(wrong)?;
        let before = present.iter().find(|l| l.metric == *metric).map(|l| (l.limit, l.soft));
        if before == Some((limit, definition.soft)) {
            continue;
        }
        sqlx::query_file!("sql/plan/upsert_limit.sql", plan.key, metric, limit, definition.soft)
            .execute(&mut *connection)
            .await?;
        let now = words(unit, limit, definition.soft);
        changes.push(match before {
            Some((limit, soft)) => format!("limit of {metric} {now}, was {}", words(unit, limit, soft)),
            None => format!("limit of {metric} {now}"),
        });
    }
    Ok(changes)
}

fn wrong_plan(plan: &PlanDefinition, what: String) -> Error {
    Error::Configuration { what: format!("plan {}: {what}", plan.key), hint: None }
}

fn words(unit: Unit, limit: Option<i64>, soft: bool) -> String {
    let limit = limit.map_or_else(|| "unlimited".to_owned(), |limit| unit.format(limit));
    if soft { format!("{limit} (soft)") } else { limit }
}

fn renamed(before: &str, after: &str) -> Vec<String> {
    if before == after { Vec::new() } else { vec![format!("name {after:?}, was {before:?}")] }
}

/// The metric that a definition makes of the one that is there.
fn defined(definition: &MetricDefinition, before: Option<&Metric>) -> Result<Metric> {
    let wrong = |what: String| Error::Configuration {
        what: format!("metric {}: {what}", definition.key),
        hint: None,
    };
    let (default, soft) = match &definition.default {
        Some(default) => (
            default.value(definition.unit).map_err(|reason| wrong(format!("default: {reason}")))?,
            default.soft,
        ),
        None => before.map_or((None, false), |before| (before.default, before.soft)),
    };
    let reset = definition.reset.or(before.map(|b| b.reset)).unwrap_or_default();
    let metric = Metric {
        key: definition.key.clone(),
        name: definition.name.trim().to_owned(),
        unit: definition.unit,
        kind: definition.kind,
        reset,
        aggregation: definition.aggregation.or(before.map(|b| b.aggregation)).unwrap_or_default(),
        source: definition.source.or(before.map(|b| b.source)).unwrap_or_default(),
        default,
        soft,
        anchor_day: match definition.anchor_day {
            Some(day) => day,
            None => match before.filter(|_| reset == Reset::Monthly) {
                Some(before) => before.anchor_day,
                None => BillingDay::from_database(1)?,
            },
        },
    };
    if metric.kind == Kind::Gauge && metric.reset != Reset::Never {
        return Err(wrong("a gauge is never reset: it goes down by what is released".into()));
    }
    if metric.aggregation == Aggregation::Max && metric.kind != Kind::Counter {
        return Err(wrong("only a counter can hold the largest amount".into()));
    }
    if metric.reset != Reset::Monthly && metric.anchor_day.day() != 1 {
        return Err(wrong("only a monthly metric has a day that its periods begin on".into()));
    }
    if metric.source == Source::Memberships
        && (metric.key.as_str(), metric.kind, metric.unit) != ("admins", Kind::Gauge, Unit::Count)
    {
        return Err(wrong("only admins, a gauge, is counted from the tenants' members".into()));
    }
    Ok(metric)
}

fn differences(before: &Metric, after: &Metric) -> Vec<String> {
    let mut changes = renamed(&before.name, &after.name);
    changes.extend(meaning(before, after));
    if before.anchor_day != after.anchor_day {
        changes.push(format!("anchor_day {}, was {}", after.anchor_day, before.anchor_day));
    }
    if (before.default, before.soft) != (after.default, after.soft) {
        changes.push(format!(
            "default {}, was {}",
            words(after.unit, after.default, after.soft),
            words(before.unit, before.default, before.soft)
        ));
    }
    changes
}

/// What the figures on counters mean by.
fn meaning(before: &Metric, after: &Metric) -> Vec<String> {
    [
        ("unit", before.unit.as_str(), after.unit.as_str()),
        ("kind", before.kind.as_str(), after.kind.as_str()),
        ("reset", before.reset.as_str(), after.reset.as_str()),
        ("aggregation", before.aggregation.as_str(), after.aggregation.as_str()),
        ("source", before.source.as_str(), after.source.as_str()),
    ]
    .into_iter()
    .filter(|(_, before, after)| before != after)
    .map(|(field, before, after)| format!("{field} {after}, was {before}"))
    .collect()
}

fn refuse_to_falsify(before: &Metric, after: &Metric, counted: &[String]) -> Result<()> {
    let changes = meaning(before, after);
    if changes.is_empty() || !counted.contains(&after.key) {
        return Ok(());
    }
    Err(Error::refused(
        format!(
            "metric {}: {}: tenants have used it already, and what is counted would be false",
            after.key,
            changes.join("; ")
        ),
        "give the new metric a key of its own",
    ))
}

/// Members who are there before their metric were never counted.
async fn refuse_uncounted(connection: &mut PgConnection, metric: &Metric) -> Result<()> {
    if !sqlx::query_file_scalar!("sql/user/any_admin.sql").fetch_one(connection).await? {
        return Ok(());
    }
    Err(Error::refused(
        format!("metric {}: tenants have admins already, who were not counted", metric.key),
        "leave the metric as it is",
    ))
}
