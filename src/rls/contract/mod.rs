//! The isolation contract: what `verify` must know of a platform that this library does not manage.

mod acting;
pub mod init;
mod statement;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use acting::{Acting, Forgery};

use crate::rls::ignore::Ignore;
use crate::{Error, Result};

/// How a platform keeps its tenants apart, as its own people state it in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Names of the tenant column, the likeliest first; one name may stand without a list.
    #[serde(default, deserialize_with = "one_or_more")]
    pub tenant_column: Vec<String>,
    /// Tenant tables whose column is called otherwise, as `schema.table`, each with its column.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
    /// Schemas to look at; empty for every one but the system's and the control plane's.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// Roles that must be confined to their tenant.
    pub app_roles: Vec<String>,
    /// Roles that may cross tenants on purpose.
    #[serde(default)]
    pub admin_roles: Vec<String>,
    /// How a transaction says which tenant it serves.
    pub context: Context,
    /// Tables that all tenants read on purpose, as `schema.table`.
    #[serde(default)]
    pub shared_tables: Vec<String>,
    /// Findings that somebody decided to live with until a day is over.
    #[serde(default)]
    pub ignore: Vec<Ignore>,
}

/// How a transaction says which tenant it serves, and as which user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Statements that name the tenant: `SET` or `SELECT set_config(…)`, with the placeholders `{tenant}`, `{user}` and
    /// `{role}`.
    #[serde(deserialize_with = "one_or_more")]
    pub set: Vec<String>,
    /// Statements that make the user a member of the tenant; they run once for each synthetic tenant, with the rights of
    /// whoever verifies, and are rolled back.
    #[serde(default, deserialize_with = "one_or_more")]
    pub prepare: Vec<String>,
    /// The tenants that attack each other.
    #[serde(default)]
    pub tenants: Tenants,
}

/// The tenants that attack each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tenants {
    /// Two that are made up.
    #[default]
    Auto,
    /// Two made under these keys, which no tenant may have yet.
    Given([String; 2]),
}

impl Contract {
    /// Reads a contract from a file.
    ///
    /// # Errors
    /// [`Error::Configuration`], naming the file and the key.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::Configuration {
            what: format!("{name}: {error}"),
            hint: Some("`tenantctl rls contract init` writes a first contract".into()),
        })?;
        Self::parse(&text, &name)
    }

    /// Parses a contract; `name` says in errors where it comes from.
    ///
    /// # Errors
    /// [`Error::Configuration`], naming the key.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let wrong = |what: String| Error::Configuration {
            what: format!("{name}: {what}"),
            hint: Some("`tenantctl rls contract init` shows what a contract looks like".into()),
        };
        let contract: Self = serde_yaml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        contract.check().map_err(wrong)?;
        Ok(contract)
    }

    fn check(&self) -> Result<(), String> {
        if self.tenant_column.is_empty() && self.tables.is_empty() {
            return Err("tenant_column: name the column that holds the tenant".into());
        }
        if self.app_roles.is_empty() {
            return Err("app_roles: name the role that the application runs as".into());
        }
        if let Some(role) = self.app_roles.iter().find(|role| self.admin_roles.contains(role)) {
            return Err(format!("admin_roles: {role:?} must be confined, too, says app_roles"));
        }
        Acting::of(&self.context, "").map(|_| ())
    }
}

impl Serialize for Tenants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Given(keys) => keys.serialize(serializer),
        }
    }
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrMore;
    impl<'de> Visitor<'de> for OneOrMore {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a list of texts")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }
    deserializer.deserialize_any(OneOrMore)
}

impl<'de> Deserialize<'de> for Tenants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoOrTwo;
        impl<'de> Visitor<'de> for AutoOrTwo {
            type Value = Tenants;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, or a list of two different keys")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "auto" => Ok(Tenants::Auto),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                let keys: Vec<serde_yaml::Value> = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                let keys: Option<Vec<String>> = keys.into_iter().map(key).collect();
                match keys.as_deref() {
                    Some([a, b]) if a != b => Ok(Tenants::Given([a.clone(), b.clone()])),
                    _ => Err(serde::de::Error::custom(
                        "expected auto, or a list of two different keys made of letters, digits and any of _.:@/-",
                    )),
                }
            }
        }
        deserializer.deserialize_any(AutoOrTwo)
    }
}

/// A key of a tenant. It stands in statements and in JSON: nothing in it may mean anything there.
fn key(value: serde_yaml::Value) -> Option<String> {
    let text = match value {
        serde_yaml::Value::String(text) => text,
        serde_yaml::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let plain = |c: char| c.is_alphanumeric() || "_.:@/-".contains(c);
    (!text.is_empty() && text.chars().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "tenant_column: [tenant_id, org_id]\ntables: {public.orgs: id}\nschemas: [public]\napp_roles: [app]\n\
        admin_roles: [boss]\nshared_tables: [public.countries]\ncontext:\n  set: SET LOCAL app.tenant = '{tenant}'\n  \
        prepare: [\"SELECT '{user}'\"]\n  tenants: [1, b-2]\nignore:\n  - {check: no-policy, object: '*', reason: soon, until: 2027-06-30}\n";

    fn refused(text: &str) -> String {
        match Contract::parse(text, "isolation.yaml") {
            Err(error @ Error::Configuration { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_contract_is_read() {
        let contract = Contract::parse(WHOLE, "x").unwrap();
        assert_eq!(contract.tenant_column, ["tenant_id", "org_id"]);
        assert_eq!(contract.tables["public.orgs"], "id");
        assert_eq!(contract.context.set.len(), 1);
        assert_eq!(contract.ignore[0].check, "no-policy");
        assert_eq!(contract.context.tenants, Tenants::Given(["1".into(), "b-2".into()]));
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        for (from, to, says) in [
            ("app_roles: [app]\n", "", "app_roles"),
            ("app_roles: [app]\n", "app_roles: []\n", "app_roles"),
            ("app_roles: [app]\n", "app_roles: [boss]\n", "admin_roles"),
            ("schemas: [public]", "schema: [public]", "schema"),
            ("schemas: [public]", "schemas: public", "schemas"),
            ("tenant_column: [tenant_id, org_id]\ntables: {public.orgs: id}\n", "", "tenant_column"),
            ("SET LOCAL app.tenant = '{tenant}'", "SET ROLE app", "context.set"),
            ("SET LOCAL app.tenant = '{tenant}'", "SET LOCAL app.tenant = 'x'", "context.set"),
            ("[1, b-2]", "[1]", "context.tenants"),
            ("[1, b-2]", "[1, \"b'2\"]", "context.tenants"),
            ("[1, b-2]", "two", "context.tenants"),
            ("prepare:", "prepares:", "prepares"),
            ("reason: soon", "reason: ''", "reason is empty"),
            (", until: 2027-06-30", "", "until"),
        ] {
            assert!(WHOLE.contains(from), "{from}");
            let message = refused(&WHOLE.replacen(from, to, 1));
            assert!(message.starts_with("isolation.yaml: ") && message.contains(says), "{says}: {message}");
        }
    }
}
