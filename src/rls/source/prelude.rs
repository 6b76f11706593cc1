//! What files rely on without making it: what the platform that they are written for has in its database before them.

use crate::db::script::{Item, Statement};

/// What there is before the first file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prelude {
    /// The schemas, roles and functions of a Supabase project.
    Supabase,
    /// The control plane of this library.
    ControlPlane,
}

/// Names that only a Supabase project has.
const SUPABASE: &[&str] = &["auth.uid(", "auth.jwt(", "auth.role(", "auth.email(", "auth.users"];

/// Names that another platform may have, too, but then it makes the roles.
const LIKELY_SUPABASE: &[&str] = &["service_role", "supabase_realtime"];

/// The roles that a Supabase project has, as far as they are made here.
pub(super) const SUPABASE_ROLES: &[&str] = &["anon", "authenticated", "service_role"];

/// What platforms use of the control plane.
const CONTROL_PLANE: &[&str] = &[
    "tenancy.tenants",
    "tenancy.users",
    "tenancy.memberships",
    "tenancy.current_tenant_id",
    "tenancy.role_name",
    "tenancy.protect",
    "tenancy.share",
    "tenancy.track_usage",
    "tenancy.admit_usage",
];

/// What the files rely on, and do not make themselves. `supabase` says that they are a Supabase project's.
pub(super) fn needed<'a, 'b: 'a>(
    items: impl Iterator<Item = &'a Item<'b>> + Clone,
    supabase: bool,
) -> Vec<Prelude> {
    let statements = items.filter_map(|item| match item {
        Item::Sql(statement) => Some(statement),
        Item::Copy { .. } | Item::Meta { .. } => None,
    });
    let mut found = Vec::new();
    let makes = |schema| statements.clone().any(|statement| makes_schema(statement, schema));
    let mentions = |names: &[&str]| {
        statements.clone().any(|statement| {
            // A quoted name is the same name here.
            let text = statement.text.to_lowercase().replace('"', "");
            names.iter().any(|name| text.contains(name))
        })
    };
    let makes_roles = || SUPABASE_ROLES.iter().any(|role| mentions(&[&format!("create role {role}")]));
    let likely = || mentions(LIKELY_SUPABASE) && !makes_roles();
    if (supabase || mentions(SUPABASE) || likely()) && !makes("auth") {
        found.push(Prelude::Supabase);
    }
    if mentions(CONTROL_PLANE) && !makes("tenancy") {
        found.push(Prelude::ControlPlane);
    }
    found
}

/// Whether a statement makes the schema, or may make it in code of its own.
fn makes_schema(statement: &Statement<'_>, schema: &str) -> bool {
    if statement.begins(&["do"]) {
        let text = statement.text.to_lowercase();
        return text.contains(&format!("create schema {schema}"))
            || text.contains(&format!("create schema if not exists {schema}"));
    }
    statement.begins(&["create", "schema"])
        && statement.words[2..].iter().take(5).any(|word| word.trim_matches('"') == schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::script::split;

    fn needs(text: &str) -> Vec<Prelude> {
        needed(split(text).unwrap().iter(), false)
    }

    #[test]
    fn only_what_is_mentioned_and_not_made() {
        assert_eq!(needs("CREATE POLICY p ON t USING (x = (SELECT Auth.uid()))"), [Prelude::Supabase]);
        assert_eq!(needs("GRANT ALL ON t TO \"service_role\""), [Prelude::Supabase]);
        assert_eq!(needs("CREATE ROLE service_role; GRANT ALL ON t TO service_role"), []);
        assert_eq!(needed(split("SELECT 1").unwrap().iter(), true), [Prelude::Supabase]);
        assert_eq!(needs("CREATE SCHEMA IF NOT EXISTS \"auth\"; SELECT auth.uid()"), []);
        assert_eq!(needs("CREATE SCHEMA AUTHORIZATION auth; SELECT auth.uid()"), []);
        assert_eq!(needs("CREATE SCHEMA authors; SELECT auth.uid()"), [Prelude::Supabase]);
        assert_eq!(needs("DO $$ BEGIN CREATE SCHEMA auth; END $$; SELECT auth.uid()"), []);
        assert_eq!(needs("SELECT 1; -- auth.uid()"), []);
        assert_eq!(needs("REFERENCES tenancy.tenants"), [Prelude::ControlPlane]);
        assert_eq!(needs("CREATE SCHEMA tenancy; CREATE TABLE tenancy.tenants ()"), []);
    }
}
