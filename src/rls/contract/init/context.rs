//! How a transaction says which tenant it serves: the settings that policies read, with what they must hold.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::postgres::types::Oid;

use super::Draft;
use super::reading::{Reading, Source};
use super::tenants::{Tenants, names_tenant, names_user};
use crate::db::quote::literal;

/// What a setting or a claim holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    Unknown,
    /// It opens what would be closed: nobody sets it.
    Bypass,
    Role,
    Fixed(String),
    User,
    Tenant,
}

type Meanings = BTreeMap<Source, Meaning>;

/// The statements of `context.set`.
pub(super) fn settings(readings: &[(Oid, Reading)], tenants: &Tenants, draft: &mut Draft) -> Vec<String> {
    let meanings = meanings(readings, tenants);
    let mut of: BTreeMap<&str, Vec<(&Source, &Meaning)>> = BTreeMap::new();
    for (source, meaning) in &meanings {
        let what = match meaning {
            Meaning::Tenant => "the tenant",
            Meaning::User => "the user",
            Meaning::Role => "the role",
            Meaning::Fixed(_) => "a text that policies ask for",
            Meaning::Bypass => {
                let text = format!("{} is not set: policies open up for it.", capital(&source.describe()));
                draft.because("context.set", text);
                continue;
            }
            Meaning::Unknown => {
                draft.ask("context.set", format!("Policies read {}: what is in it?", source.describe()));
                continue;
            }
        };
        draft.because("context.set", format!("{} holds {what}.", capital(&source.describe())));
        of.entry(&source.setting).or_default().push((source, meaning));
    }
    let mut statements: Vec<String> = of
        .iter()
        .map(|(setting, parts)| {
            let value = value(setting, parts);
            format!("SELECT set_config({}, {}, true)", literal(setting), literal(&value))
        })
        .collect();
    let named = |wanted: Meaning| meanings.values().any(|meaning| *meaning == wanted);
    if !named(Meaning::Tenant) && !named(Meaning::User) {
        draft.ask(
            "context.set",
            "No policy says which setting holds the tenant. Which one does the application set?".into(),
        );
        statements.push("SELECT set_config('app.current_tenant_id', '{tenant}', true)".into());
    }
    statements
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn meanings(readings: &[(Oid, Reading)], tenants: &Tenants) -> Meanings {
    let mut found = Meanings::new();
    let mut note = |source: &Source, meaning: Meaning| {
        let known = found.entry(source.clone()).or_insert(Meaning::Unknown);
        if *known < meaning {
            *known = meaning;
        }
    };
    for (table, reading) in readings {
        for source in &reading.sources {
            note(source, by_name(source, tenants));
        }
        for candidate in &reading.candidates {
            let tenant = tenants.is(*table, &candidate.column);
            for source in &candidate.direct {
                note(source, if tenant { Meaning::Tenant } else { Meaning::User });
            }
        }
        for lookup in &reading.lookups {
            let tenant = tenants.is(lookup.table, &lookup.key);
            for source in &lookup.sources {
                note(source, if tenant { Meaning::Tenant } else { Meaning::User });
            }
        }
        // A policy that asks for nothing but a text is a way around the others.
        let around = reading.permissive && reading.candidates.is_empty();
        for (source, text, optional) in &reading.texts {
            match by_name(source, tenants) {
                // An empty context is asked for to be told from none.
                _ if text.is_empty() => {}
                Meaning::Unknown if *optional || around => note(source, Meaning::Bypass),
                Meaning::Unknown => note(source, Meaning::Fixed(text.clone())),
                _ => {}
            }
        }
    }
    found.retain(|source, _| !source.setting.is_empty());
    found
}

fn by_name(source: &Source, tenants: &Tenants) -> Meaning {
    let name = source.name();
    if name == "role" {
        Meaning::Role
    } else if names_user(name) {
        if tenants.users { Meaning::Tenant } else { Meaning::User }
    } else if names_tenant(name) || tenants.column.as_deref() == Some(name) {
        Meaning::Tenant
    } else {
        Meaning::Unknown
    }
}

/// The value of a setting: as it is, or JSON where places in it are read.
fn value(setting: &str, parts: &[(&Source, &Meaning)]) -> String {
    let mut object = Value::Object(Map::new());
    for (source, meaning) in parts {
        let text = match meaning {
            Meaning::Fixed(text) => text.as_str(),
            Meaning::User => "{user}",
            Meaning::Role => "{role}",
            _ => "{tenant}",
        };
        let text = Value::from(text);
        let text = if source.list { Value::Array(vec![text]) } else { text };
        if source.path.is_empty() {
            return text.as_str().map_or_else(|| text.to_string(), str::to_owned);
        }
        place(&mut object, &source.path, text);
    }
    // Every token has them.
    if setting.starts_with("request.jwt")
        && let Value::Object(claims) = &mut object
    {
        claims.entry("role").or_insert_with(|| "{role}".into());
        claims.entry("sub").or_insert_with(|| "{user}".into());
    }
    object.to_string()
}

fn place(into: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *into = value;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    if let Value::Object(object) = into {
        place(object.entry(first.as_str()).or_insert(Value::Null), rest, value);
    }
}
