//! The catalogue of metrics, features and plans, as it is written in YAML.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};

use super::parse_limit;
use crate::metric::{Aggregation, Kind, Reset, Source};
use crate::tenant::BillingDay;
use crate::unit::Unit;
use crate::{Error, Result};

/// A catalogue of metrics, features and plans, as it is written in YAML. What it leaves out stays as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// What is counted.
    #[serde(default)]
    pub metrics: Vec<MetricDefinition>,
    /// What can be switched on.
    #[serde(default)]
    pub features: Vec<FeatureDefinition>,
    /// The plans, smallest first. The first of all is that of a tenant that names none.
    #[serde(default)]
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
    pub kind: Kind,
    /// `never` (for a new metric the default), `daily` or `monthly`.
    pub reset: Option<Reset>,
    /// Day of the month that monthly periods begin on; 1 for a new metric.
    pub anchor_day: Option<BillingDay>,
    /// `sum` (for a new metric the default) or `max`.
    pub aggregation: Option<Aggregation>,
    /// `reported` (for a new metric the default) or `memberships`.
    pub source: Option<Source>,
    /// The limit where a plan says nothing of it; unlimited for a new metric.
    pub default: Option<LimitDefinition>,
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
    /// By metric.
    #[serde(default, deserialize_with = "each_once")]
    pub limits: BTreeMap<String, LimitDefinition>,
    /// Keys of features.
    #[serde(default)]
    pub features: BTreeSet<String>,
}

/// A limit: `5`, `5GB`, `unlimited`, or `{limit: 5, soft: true}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitDefinition {
    /// A whole number, a size where bytes are counted, or `unlimited`.
    pub limit: String,
    /// Whether more is admitted, and marked.
    pub soft: bool,
}

impl LimitDefinition {
    /// The limit in a unit; none for unlimited.
    pub(super) fn value(&self, unit: Unit) -> Result<Option<i64>, String> {
        let limit = parse_limit(&self.limit, unit)?;
        if self.soft && limit.is_none() {
            return Err("without a limit there is nothing to be soft".into());
        }
        Ok(limit)
    }
}

impl<'de> Deserialize<'de> for LimitDefinition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            limit: Scalar,
            #[serde(default)]
            soft: bool,
        }
        struct Scalar(String);
        impl<'de> Deserialize<'de> for Scalar {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let limit = deserializer.deserialize_any(Limit { plain: true })?;
                Ok(Self(limit.limit))
            }
        }
        struct Limit {
            plain: bool,
        }
        impl<'de> Visitor<'de> for Limit {
            type Value = LimitDefinition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, a size such as 5GB, unlimited")?;
                if self.plain { Ok(()) } else { f.write_str(", or {limit: 5, soft: true}") }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(LimitDefinition { limit: text.to_owned(), soft: false })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                if self.plain {
                    return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
                }
                let fields = Fields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(LimitDefinition { limit: fields.limit.0, soft: fields.soft })
            }
        }
        deserializer.deserialize_any(Limit { plain: false })
    }
}

/// A map whose keys come once each.
fn each_once<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, LimitDefinition>, D::Error> {
    struct Once;
    impl<'de> Visitor<'de> for Once {
        type Value = BTreeMap<String, LimitDefinition>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("limits by metric")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut limits = BTreeMap::new();
            while let Some((metric, limit)) = map.next_entry::<String, LimitDefinition>()? {
                if limits.contains_key(&metric) {
                    return Err(de::Error::custom(format!("two limits of {metric}")));
                }
                limits.insert(metric, limit);
            }
            Ok(limits)
        }
    }
    deserializer.deserialize_map(Once)
}

impl Catalogue {
    /// Reads YAML.
    ///
    /// # Errors
    /// [`Error::Configuration`] that names the file, what is wrong in it and on which line.
    pub fn parse(yaml: &str, file: &str) -> Result<Self> {
        let wrong = |what: String| Error::Configuration { what: format!("{file}: {what}"), hint: None };
        let catalogue: Self = serde_yaml::from_str(yaml).map_err(|error| wrong(error.to_string()))?;
        let keys = [
            ("metric", catalogue.metrics.iter().map(|m| (&m.key, &m.name)).collect::<Vec<_>>()),
            ("feature", catalogue.features.iter().map(|f| (&f.key, &f.name)).collect()),
            ("plan", catalogue.plans.iter().map(|p| (&p.key, &p.name)).collect()),
        ];
        for (kind, definitions) in keys {
            let mut seen = BTreeSet::new();
            for (key, name) in definitions {
                if !is_key(key) {
                    return Err(wrong(format!(
                        "{kind} {key:?}: a key is lower case, digits and underscores, from a letter on, of up to 63"
                    )));
                }
                if name.trim().is_empty() || name.chars().any(char::is_control) {
                    return Err(wrong(format!("{kind} {key}: its name is empty, or not for people")));
                }
                if !seen.insert(key) {
                    return Err(wrong(format!("{kind} {key} is there twice")));
                }
            }
        }
        Ok(catalogue)
    }

    /// The catalogue that a database gets which has none.
    ///
    /// # Errors
    /// None in a released build: the catalogue is compiled in and tested.
    pub fn default_plans() -> Result<Self> {
        Self::parse(include_str!("../../sql/plan/catalogue.yaml"), "the default plan catalogue")
    }
}

fn is_key(key: &str) -> bool {
    key.len() <= 63
        && key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
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
    fn a_limit_has_many_forms_and_a_mistake_has_a_line() {
        let plan = |limit: &str| {
            Catalogue::parse(&format!("plans:\n- key: a\n  name: A\n  limits:\n    events: {limit}\n"), "f")
        };
        for (text, limit, soft) in [
            ("5", "5", false),
            ("5GB", "5GB", false),
            ("unlimited", "unlimited", false),
            ("{limit: 5, soft: true}", "5", true),
            ("{limit: '5'}", "5", false),
        ] {
            let catalogue = plan(text).unwrap();
            assert_eq!(catalogue.plans[0].limits["events"], LimitDefinition { limit: limit.into(), soft });
        }
        for (text, said) in [
            ("{limit: 5, sofd: true}", "unknown field `sofd`"),
            ("{soft: true}", "missing field `limit`"),
            ("{limit: {limit: 5}}", "invalid type: map"),
            ("1.5", "invalid type: floating point"),
            ("true", "invalid type: boolean"),
            ("[5]", "invalid type: sequence"),
            ("~", "invalid type: unit"),
            ("5\n    events: 6", "two limits of events"),
        ] {
            let error = plan(text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("line 5"), "{text}: {error}");
        }
    }
}
