//! What a table's policies name that might open them: settings to set, and values of other columns.

use std::collections::BTreeSet;

use crate::db::quote::{ident, literal};
use crate::rls::contract::Acting;
use crate::rls::probe::schema::{Node, Policies};

/// How many ways are tried for one table.
const MOST: usize = 60;

/// Ways in which a policy might be opened.
#[derive(Debug, Default)]
pub(crate) struct Openers {
    /// Settings, each with a value.
    pub(crate) spoofs: Vec<(String, String)>,
    /// Values of other columns, as `"column" = value`.
    pub(crate) flags: Vec<String>,
}

const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

fn looks_like_a_key(value: &str) -> bool {
    value.parse::<uuid::Uuid>().is_ok() || value.parse::<i64>().is_ok()
}

/// What the policies name.
pub(crate) fn openers(node: &Node, policies: &Policies, acting: &Acting, other: &str) -> Openers {
    let text = format!("{} {}", policies.expressions, policies.functions);
    let mut settings = BTreeSet::new();
    for (at, found) in text.match_indices("current_setting(") {
        let rest = text[at + found.len()..].trim_start();
        let name = rest.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
        settings.extend(name.filter(|name| name.contains('.')).map(String::from));
    }
    let quoted: BTreeSet<&str> = text
        .split('\'')
        .skip(1)
        .step_by(2)
        .filter(|value| !value.is_empty() && value.len() < 60 && !settings.contains(*value))
        .take(20)
        .collect();
    let mut values: Vec<String> = quoted.iter().map(ToString::to_string).collect();
    let usual = [
        "true",
        "on",
        "1",
        "t",
        "yes",
        "*",
        "admin",
        "all",
        "system",
        "superuser",
        "0",
        "1000000",
        NOBODY,
        other,
    ];
    values.extend(usual.map(String::from));
    let mut openers = Openers::default();
    for setting in settings {
        for value in &values {
            // Naming another tenant in the context is what the setting is for.
            if !acting.uses(&setting) || *value != other {
                openers.spoofs.push((setting.clone(), value.clone()));
            }
        }
    }
    if text.contains("current_tenant_id") {
        // It reads the context: what it is compared with may be a key to everything.
        let keys = quoted.iter().copied().filter(|value| looks_like_a_key(value)).chain([NOBODY]);
        openers.spoofs.extend(keys.map(|key| (acting.setting().to_string(), key.to_string())));
    }
    for column in
        node.columns.iter().filter(|column| Some(column.attnum) != node.tenant && !column.is_generated)
    {
        let name = ident(&column.name);
        let plain = format!(" {} ", column.name);
        let words = policies.expressions.replace(['(', ')', ':', ',', '.'], " ");
        if !format!(" {words} ").contains(&plain) && !policies.expressions.contains(&name) {
            continue;
        }
        let tries: Vec<&str> = match column.category.as_str() {
            "B" => vec!["true", "false"],
            "N" => vec!["1", "0", "-1", "100000"],
            "D" => vec!["1999-01-01", "2999-01-01"],
            _ => quoted.iter().copied().collect(),
        };
        openers.flags.extend(tries.into_iter().map(|value| format!("{name} = {}", literal(value))));
        if !column.not_null {
            openers.flags.push(format!("{name} = NULL"));
        }
    }
    openers.spoofs.truncate(4 * MOST);
    openers.flags.truncate(MOST);
    openers
}
