//! Which columns hold the tenant.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::types::Oid;

use super::Draft;
use super::facts::{Facts, Table};
use super::reading::{Candidate, Reading, Source};

/// What tenant columns are often called, the likeliest first.
pub(super) const TENANT_NAMES: [&str; 18] = [
    "tenant_id",
    "tenant",
    "org_id",
    "organization_id",
    "organisation_id",
    "account_id",
    "workspace_id",
    "team_id",
    "company_id",
    "customer_id",
    "client_id",
    "group_id",
    "project_id",
    "site_id",
    "store_id",
    "shop_id",
    "school_id",
    "tenant_key",
];
/// What columns, settings and claims that hold a user are often called.
const USER_NAMES: [&str; 16] = [
    "user_id",
    "user",
    "uid",
    "userid",
    "sub",
    "owner_id",
    "owner",
    "created_by",
    "author_id",
    "profile_id",
    "member_id",
    "email",
    "username",
    "user_email",
    "user_name",
    "current_user_id",
];

/// Whether something of that name holds a user.
pub(super) fn names_user(name: &str) -> bool {
    USER_NAMES.contains(&name.to_lowercase().as_str())
}

/// Whether something of that name holds a tenant.
pub(super) fn names_tenant(name: &str) -> bool {
    let name = name.to_lowercase();
    TENANT_NAMES.contains(&name.as_str())
        || ["tenant", "org", "account", "workspace", "company", "customer", "team"]
            .iter()
            .any(|part| name.split(['_', '-']).any(|word| word == *part))
}

/// The tenant tables with their columns.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    /// The name that most tables use.
    pub(super) column: Option<String>,
    pub(super) of: BTreeMap<u32, String>,
    /// The table that the tenant columns reference.
    pub(super) root: Option<Oid>,
    /// Whether each user is a tenant.
    pub(super) users: bool,
    /// The tables that are narrowed to a user and not to a tenant.
    pub(super) per_user: BTreeMap<u32, String>,
}

/// The candidates of each table that hold a tenant or a user, and no parent that does.
type Candidates<'r> = BTreeMap<u32, Vec<&'r Candidate>>;

fn candidates<'r>(readings: &'r [(Oid, Reading)]) -> Candidates<'r> {
    let mut direct: BTreeSet<(u32, &str)> = BTreeSet::new();
    for (table, reading) in readings {
        for candidate in reading.candidates.iter().filter(|found| !found.direct.is_empty() && !is_user(found))
        {
            direct.insert((table.0, &candidate.column));
        }
    }
    let mut found: Candidates<'_> = BTreeMap::new();
    for (table, reading) in readings {
        for candidate in &reading.candidates {
            let parent = candidate.through.iter().any(|(oid, key)| direct.contains(&(oid.0, key)));
            let looked_up = |oid: &Oid| candidate.through.iter().any(|(table, _)| table == oid);
            let further = !candidate.partners.is_empty() && !candidate.partners.iter().any(looked_up);
            if !parent && !further {
                found.entry(table.0).or_default().push(candidate);
            }
        }
    }
    found
}

fn is_user(candidate: &Candidate) -> bool {
    let user = |source: &Source| names_user(source.name());
    !names_tenant(&candidate.column)
        && (names_user(&candidate.column)
            || !candidate.direct.is_empty() && candidate.direct.iter().all(user))
}

fn count(number: usize, of: usize, what: &str) -> String {
    format!("{number} of {of} {what}{}", if of == 1 { "" } else { "s" })
}

/// Finds the tenant columns, and says why it is these.
pub(super) fn find(
    facts: &Facts,
    readings: &[(Oid, Reading)],
    given: Option<&str>,
    draft: &mut Draft,
) -> Tenants {
    let found = candidates(readings);
    let mut votes: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut users: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for (table, candidates) in &found {
        for candidate in candidates.iter().filter(|candidate| candidate.column != "id") {
            let which = if is_user(candidate) { &mut users } else { &mut votes };
            which.entry(&candidate.column).or_default().insert(*table);
        }
    }
    let with_policies = readings.iter().map(|(table, _)| table.0).collect::<BTreeSet<_>>().len();
    let by_policy = most(&votes).or_else(|| most(&users));
    let mut tenants = Tenants::default();
    if let Some(name) = given {
        tenants.column = Some(name.into());
        draft.because("tenant_column", format!("{name} was given."));
    } else if let Some(name) = by_policy {
        tenants.users = !votes.contains_key(name);
        let tables = votes.get(name).or(users.get(name)).map_or(0, BTreeSet::len);
        let how = found.values().flatten().find(|c| c.column == name).map(|c| how(facts, c));
        draft.because(
            "tenant_column",
            format!(
                "In {} the policies narrow {name} to {}.",
                count(tables, with_policies, "table") + " with policies",
                how.unwrap_or_default()
            ),
        );
        if tenants.users {
            draft.because(
                "tenant_column",
                "Nothing else is compared with the context: each user is a tenant.".into(),
            );
        }
        for (other, tables) in votes.iter().filter(|(other, _)| **other != name) {
            draft.because(
                "tenant_column",
                format!("{other} is narrowed as well, in {}.", names(facts, tables)),
            );
        }
        tenants.column = Some(name.into());
    } else if let Some((name, tables)) = by_name(facts) {
        draft.because(
            "tenant_column",
            format!(
                "{} have {name}; no policy compares a column with the context.",
                count(tables, facts.tables.len(), "table")
            ),
        );
        draft.ask("tenant_column", format!("Is the tenant in {name}?"));
        tenants.column = Some(name);
    }
    tenants.settle(facts, &found);
    tenants
}

/// The name that most tables use; of several a usual one.
fn most<'v>(votes: &BTreeMap<&'v str, BTreeSet<u32>>) -> Option<&'v str> {
    let usual = |name: &str| TENANT_NAMES.iter().position(|known| *known == name).unwrap_or(usize::MAX);
    let mut sorted: Vec<_> = votes.iter().collect();
    sorted.sort_by_key(|(name, tables)| (usize::MAX - tables.len(), usual(name)));
    sorted.first().map(|(name, _)| **name)
}

fn by_name(facts: &Facts) -> Option<(String, usize)> {
    let having = |name: &&str| facts.tables.iter().filter(|table| table.column(name).is_some()).count();
    let counted = TENANT_NAMES.iter().map(|name| (name, having(name))).filter(|(_, tables)| *tables > 0);
    let best = counted.rev().max_by_key(|(_, tables)| *tables)?;
    Some(((*best.0).to_owned(), best.1))
}

fn names(facts: &Facts, tables: &BTreeSet<u32>) -> String {
    let found = facts.tables.iter().filter(|table| tables.contains(&table.oid.0));
    found.map(|table| table.quoted.as_str()).collect::<Vec<_>>().join(", ")
}

fn how(facts: &Facts, candidate: &Candidate) -> String {
    if let Some(source) = candidate.direct.first() {
        return source.describe();
    }
    if let Some((table, key)) = candidate.through.first() {
        let table = facts.table(*table).map_or("", |table| &table.quoted);
        return format!("what {table} says for a {key}");
    }
    candidate.function.as_ref().map_or_else(|| "the context".into(), |name| format!("what {name}() allows"))
}

impl Tenants {
    pub(super) fn is(&self, table: Oid, column: &str) -> bool {
        self.of.get(&table.0).is_some_and(|of| of == column)
    }

    fn settle(&mut self, facts: &Facts, found: &Candidates<'_>) {
        for table in &facts.tables {
            let main = self.column.as_deref().filter(|column| table.column(column).is_some());
            let candidates = found.get(&table.oid.0).map_or(&[][..], Vec::as_slice);
            let fits = |candidate: &&&Candidate| self.users || !is_user(candidate);
            if let Some(column) = main.or(candidates.iter().find(fits).map(|c| c.column.as_str())) {
                self.of.insert(table.oid.0, column.to_owned());
            } else if let Some(candidate) = candidates.first() {
                self.per_user.insert(table.oid.0, candidate.column.clone());
            }
        }
        let mut referenced: BTreeMap<u32, usize> = BTreeMap::new();
        for table in &facts.tables {
            let column = self.of.get(&table.oid.0).and_then(|column| table.column(column));
            if let Some(target) =
                column.and_then(|column| column.target).filter(|target| *target != table.oid)
            {
                *referenced.entry(target.0).or_default() += 1;
            }
        }
        self.root = referenced.into_iter().max_by_key(|(_, times)| *times).map(|(oid, _)| Oid(oid));
    }

    /// The key of the table that the tenant columns reference.
    pub(super) fn root_key<'f>(&self, facts: &'f Facts) -> Option<(&'f Table, &'f str)> {
        let root = facts.table(self.root?)?;
        let key = facts.tables.iter().find_map(|table| {
            let column = table.column(self.of.get(&table.oid.0)?)?;
            (column.target == Some(root.oid)).then_some(column.target_column.as_deref())?
        })?;
        Some((root, key))
    }
}
