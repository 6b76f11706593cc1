//! Who must be confined, who may cross, and what each can reach.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use super::Draft;
use super::facts::{self, Facts, Reach, Role};
use super::tenants::Tenants;
use crate::{Error, Result};

/// The roles of a contract, and what the application's reach.
pub(super) struct Roles {
    pub(super) app: Vec<String>,
    pub(super) admin: Vec<String>,
    reach: BTreeMap<u32, (bool, bool)>,
}

/// Words in the names of roles that are there to cross.
const ADMIN_WORDS: [&str; 9] =
    ["admin", "service", "super", "root", "bypass", "support", "operator", "maintenance", "backoffice"];

pub(super) async fn find(
    connection: &mut PgConnection,
    facts: &Facts,
    tenants: &Tenants,
    given: &[String],
    draft: &mut Draft,
) -> Result<Roles> {
    let all: Vec<Oid> = facts.tables.iter().map(|table| table.oid).collect();
    let roles = facts::roles(connection, &all).await?;
    let mut names: Vec<String> = roles.iter().map(|role| role.name.clone()).collect();
    names.extend(given.iter().filter(|name| !roles.iter().any(|role| role.name == **name)).cloned());
    let reach = facts::reach(connection, &names, &all).await?;
    let mut of: BTreeMap<&str, Vec<&Reach>> = BTreeMap::new();
    for pair in reach.iter().filter(|pair| tenants.of.contains_key(&pair.relation.0)) {
        of.entry(&pair.role).or_default().push(pair);
    }
    let owners: BTreeSet<&str> = facts
        .tables
        .iter()
        .filter(|table| tenants.of.contains_key(&table.oid.0))
        .map(|table| table.owner.as_str())
        .collect();
    let admin = admins(facts, &roles, given, draft);
    let mut app = given.to_vec();
    if app.is_empty() {
        app = confined(&roles, &of, &owners, &admin, draft);
    } else {
        draft.because("app_roles", format!("{} given.", if app.len() == 1 { "It was" } else { "They were" }));
    }
    if app.is_empty() {
        return Err(Error::Invalid {
            field: "role",
            value: String::new(),
            reason: "no role but owners and those that bypass row-level security can reach a table with a tenant column"
                .into(),
            hint: Some("name the role that the application runs as with --role".into()),
        });
    }
    let mut reached: BTreeMap<u32, (bool, bool)> = BTreeMap::new();
    for pair in reach.iter().filter(|pair| app.contains(&pair.role)) {
        let known = reached.entry(pair.relation.0).or_default();
        *known = (known.0 || pair.reads, known.1 || pair.writes);
    }
    Ok(Roles { app, admin, reach: reached })
}

/// Roles that cross on purpose.
fn admins(facts: &Facts, roles: &[Role], given: &[String], draft: &mut Draft) -> Vec<String> {
    let mut found = Vec::new();
    for role in roles.iter().filter(|role| !role.superuser && !role.owns && !given.contains(&role.name)) {
        let own: Vec<_> = facts.policies.iter().filter(|policy| policy.roles.contains(&role.name)).collect();
        let open = !own.is_empty()
            && own.iter().all(|p| p.permissive && p.qual.as_deref().is_none_or(|q| q == "true"));
        let named = ADMIN_WORDS.iter().any(|word| role.name.to_lowercase().contains(word));
        if role.bypass {
            draft.because("admin_roles", format!("{} has BYPASSRLS.", role.name));
        } else if open && named {
            draft.because("admin_roles", format!("Every policy for {} lets it do anything.", role.name));
            draft.ask("admin_roles", format!("May whoever acts as {} see every tenant?", role.name));
        } else {
            continue;
        }
        found.push(role.name.clone());
    }
    found
}

/// Roles that must not cross.
fn confined(
    roles: &[Role],
    reach: &BTreeMap<&str, Vec<&Reach>>,
    owners: &BTreeSet<&str>,
    admin: &[String],
    draft: &mut Draft,
) -> Vec<String> {
    let exempt = |role: &&Role| !role.superuser && !role.bypass && !admin.contains(&role.name);
    let mut found = Vec::new();
    let mut idle = Vec::new();
    for role in roles.iter().filter(exempt).filter(|role| !owners.contains(role.name.as_str())) {
        let pairs = reach.get(role.name.as_str()).map_or(&[][..], Vec::as_slice);
        let used = pairs.iter().filter(|pair| pair.reads || pair.writes).count();
        let admitted = pairs.iter().filter(|pair| (pair.reads || pair.writes) && pair.admitted).count();
        let login = if role.login { ", and logs in" } else { "" };
        let text = format!("{} reaches {used} tenant table{}", role.name, if used == 1 { "" } else { "s" });
        if admitted > 0 {
            found.push((role.name.clone(), format!("{text}, policies for it stand on {admitted}{login}.")));
        } else if used > 0 {
            idle.push((role.name.clone(), format!("{text}{login}.")));
        }
    }
    // Where nobody is admitted anywhere, whoever has privileges is attacked.
    if found.is_empty() {
        found.append(&mut idle);
    }
    if found.is_empty() {
        let runs = |role: &&Role| role.owns && role.login && owners.contains(role.name.as_str());
        for role in roles.iter().filter(exempt).filter(runs) {
            let text = format!("{} owns the tables, and nobody else reaches them.", role.name);
            draft.ask("app_roles", format!("Does the application log in as {}?", role.name));
            found.push((role.name.clone(), text));
        }
    }
    for (name, text) in idle {
        draft.because("app_roles", format!("Left out: {text} No policy is for it: it sees no row."));
        draft.ask("app_roles", format!("Does the application act as {name}, too?"));
    }
    for (_, text) in &found {
        draft.because("app_roles", text.clone());
    }
    found.into_iter().map(|(name, _)| name).collect()
}

impl Roles {
    /// Whether the application can read a table, and whether it can write to it.
    pub(super) fn reaches(&self, table: Oid) -> (bool, bool) {
        self.reach.get(&table.0).copied().unwrap_or_default()
    }
}
