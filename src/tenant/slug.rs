//! Slugs: unique short names of tenants that also work as labels of a domain name.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::Tenant;
use crate::{Error, Result};

/// Words that a slug may not be: a tenant's slug becomes a host name and a path segment, where these mean the platform.
const RESERVED: &[&str] = &[
    "about",
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "app",
    "apps",
    "assets",
    "auth",
    "autoconfig",
    "autodiscover",
    "billing",
    "blog",
    "cdn",
    "dashboard",
    "docs",
    "email",
    "ftp",
    "health",
    "help",
    "host",
    "hostmaster",
    "imap",
    "internal",
    "localhost",
    "login",
    "logout",
    "mail",
    "mx",
    "none",
    "ns",
    "ns1",
    "ns2",
    "null",
    "oauth",
    "pop",
    "pop3",
    "postmaster",
    "public",
    "register",
    "root",
    "security",
    "settings",
    "signin",
    "signup",
    "smtp",
    "ssl",
    "static",
    "status",
    "support",
    "system",
    "tenancy",
    "tenant",
    "tenants",
    "undefined",
    "user",
    "users",
    "webmaster",
    "wpad",
    "www",
];

/// The longest label of a domain name (RFC 1035, section 2.3.4).
const LONGEST: usize = 63;

/// A tenant's unique short name: 2 to 63 lower-case letters, digits and hyphens, as in a label of a domain name
/// (RFC 1123, section 2.1), not a reserved word, not in the form of a UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A slug made from a name: what is not a letter or digit of ASCII becomes a hyphen.
    ///
    /// # Errors
    /// [`Error::Invalid`] where nothing usable is left.
    pub fn from_name(name: &str) -> Result<Self> {
        let mut slug = String::new();
        for c in name.to_lowercase().chars() {
            if c.is_ascii_alphanumeric() {
                slug.push(c);
            } else if !slug.is_empty() && !slug.ends_with('-') && c != '\'' {
                slug.push('-');
            }
        }
        slug.truncate(LONGEST);
        slug.trim_end_matches('-').parse().map_err(|_| Error::Invalid {
            field: "slug",
            value: slug.clone(),
            reason: format!("no slug can be made of the name {name:?}"),
            hint: Some("give one with --slug".into()),
        })
    }

    /// A slug that was valid when it was stored: words that were reserved since are let through.
    pub(super) fn from_database(text: &str) -> Result<Self> {
        check_grammar(text)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for Slug {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        check_grammar(text)?;
        if RESERVED.contains(&text) {
            return Err(Error::Invalid {
                field: "slug",
                value: text.into(),
                reason: "the word is reserved for the platform itself".into(),
                hint: Some(format!("try \"{text}-team\"")),
            });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Slug {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

fn check_grammar(text: &str) -> Result<()> {
    let reason = if !(2..=LONGEST).contains(&text.len()) {
        "a slug has 2 to 63 characters"
    } else if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "a slug has lower-case letters, digits and hyphens only"
    } else if text.starts_with('-') || text.ends_with('-') {
        "a slug neither begins nor ends with a hyphen"
    } else if text.as_bytes().get(2..4) == Some(b"--") {
        "hyphens in the third and fourth place are reserved for internationalised domain names"
    } else if uuid::Uuid::parse_str(text).is_ok() {
        "a slug in the form of a UUID could not be told from an identifier"
    } else {
        return Ok(());
    };
    let suggestion = text.trim().to_lowercase().replace([' ', '_', '.'], "-");
    let hint =
        (suggestion != text && check_grammar(&suggestion).is_ok()).then(|| format!("try {suggestion:?}"));
    Err(Error::Invalid { field: "slug", value: text.into(), reason: reason.into(), hint })
}

/// Puts a value into a tenant's `branding` or `settings` by its path; null removes it.
pub(super) fn set_path(tenant: &mut Tenant, path: &str, value: Value) -> Result<()> {
    let wrong = |reason: &str| Error::Invalid {
        field: "set",
        value: path.into(),
        reason: reason.into(),
        hint: Some("write branding.KEY=VALUE or settings.KEY=VALUE".into()),
    };
    let mut keys = path.split('.');
    let root = match keys.next() {
        Some("branding") => &mut tenant.branding,
        Some("settings") => &mut tenant.settings,
        _ => return Err(wrong("only branding and settings take values")),
    };
    let keys: Vec<&str> = keys.collect();
    let Some((last, parents)) = keys.split_last() else { return Err(wrong("the key is missing")) };
    if keys.iter().any(|k| k.is_empty()) {
        return Err(wrong("a part of the path is empty"));
    }
    let mut object = as_object(root).ok_or_else(|| wrong("it is not an object"))?;
    for key in parents {
        let next = object.entry(*key).or_insert_with(|| Value::Object(Map::new()));
        object = as_object(next).ok_or_else(|| wrong(&format!("{key} holds a value, not an object")))?;
    }
    if value.is_null() {
        object.remove(*last);
    } else {
        object.insert((*last).into(), value);
    }
    Ok(())
}

fn as_object(value: &mut Value) -> Option<&mut Map<String, Value>> {
    value.as_object_mut()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar_is_that_of_a_label() {
        for good in ["ab", "acme-university", "4chan", "a1", &"a".repeat(63)] {
            assert!(good.parse::<Slug>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "-a",
            "a-",
            "Acme",
            "a_b",
            "a b",
            "é",
            "xn--80ak",
            &"a".repeat(64),
            "a'; DROP",
            "a.b",
            "0b6f4e1c-7f7a-4c39-9c1e-7e1f6f6a2a11",
            "admin",
            "www",
            "api",
        ] {
            assert!(bad.parse::<Slug>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_makes_a_slug() {
        assert_eq!(Slug::from_name("Acme University").unwrap().as_str(), "acme-university");
        assert_eq!(
            Slug::from_name("Robert'); DROP TABLE tenants;--").unwrap().as_str(),
            "robert-drop-table-tenants"
        );
        assert!(Slug::from_name("日本").is_err());
        assert!(Slug::from_name("Admin").is_err());
    }

    proptest! {
        #[test]
        fn whatever_parses_satisfies_the_database(text in "\\PC{0,70}") {
            if let Ok(slug) = text.parse::<Slug>() {
                let s = slug.as_str();
                prop_assert!(s.len() <= 63 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
        }

        #[test]
        fn a_name_never_panics(name in "\\PC{0,200}") {
            let _ = Slug::from_name(&name);
        }
    }
}
