//! The ways in which a table's isolation can be weakened: each is a few statements that somebody might well run.

use crate::db::quote::{ident, literal};

/// A policy, with what it takes to write it anew.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) permissive: bool,
    /// `*`, `r`, `a`, `w` or `d`, as `pg_policy` has it.
    pub(super) command: String,
    /// Quoted, separated by commas.
    pub(super) roles: String,
    pub(super) qual: Option<String>,
    pub(super) checked: Option<String>,
}

impl Policy {
    fn drop(&self, table: &str) -> String {
        format!("DROP POLICY {} ON {table}", ident(&self.name))
    }

    fn create(&self, table: &str) -> String {
        let kind = if self.permissive { "PERMISSIVE" } else { "RESTRICTIVE" };
        let command = match self.command.as_str() {
            "r" => "SELECT",
            "a" => "INSERT",
            "w" => "UPDATE",
            "d" => "DELETE",
            _ => "ALL",
        };
        let qual = self.qual.as_ref().map_or(String::new(), |qual| format!(" USING ({qual})"));
        let checked = self.checked.as_ref().map_or(String::new(), |check| format!(" WITH CHECK ({check})"));
        format!(
            "CREATE POLICY {} ON {table} AS {kind} FOR {command} TO {}{qual}{checked}",
            ident(&self.name),
            self.roles
        )
    }

    /// The policy with both expressions rewritten.
    fn with(&self, rewrite: impl Fn(&str) -> String) -> Self {
        Self {
            qual: self.qual.as_deref().map(&rewrite),
            checked: self.checked.as_deref().map(&rewrite),
            ..self.clone()
        }
    }
}

/// What an intruder would use that the weakening left open, where an ordinary statement does not meet it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opening {
    /// An ordinary statement.
    None,
    /// A setting with a value.
    Setting(&'static str, &'static str),
    /// A session in which the context was never set.
    Unset,
    /// Tenant B's row once it was given a value; then it is known by the condition, where there is one.
    Row { assignment: String, condition: Option<String> },
    /// Something else to read from.
    Relation(String),
    /// Statements of the application role in the context of tenant A, of which the last counts what it reached. Keys of
    /// the tenants stand in for [`KEYS`].
    Script(String),
}

/// What stands for the keys of tenants A and B in a script, as literals.
pub(super) const KEYS: [&str; 2] = ["<key of tenant A>", "<key of tenant B>"];

/// What stands for the value of the setting that names tenant B, as a literal.
pub(super) const CONTEXT: &str = "<context of tenant B>";

/// One weakening.
#[derive(Debug, Clone)]
pub(super) struct Mutation {
    /// What is done, in a word.
    pub(super) name: String,
    /// What it is done to.
    pub(super) object: String,
    pub(super) statements: Vec<String>,
    pub(super) opening: Opening,
}

/// What the weakenings of a table need to know about it.
#[derive(Debug, Clone)]
pub(super) struct Subject<'a> {
    /// Quoted, with its schema.
    pub(super) table: &'a str,
    /// The schema, quoted.
    pub(super) schema: String,
    /// The application role.
    pub(super) app: &'a str,
    /// The role that is connected.
    pub(super) home: &'a str,
    /// The tenant column, quoted.
    pub(super) tenant: String,
    /// Its type.
    pub(super) tenant_type: &'a str,
    /// The setting that carries the tenant.
    pub(super) setting: &'a str,
    /// Tenant B's key, where it is known by now.
    pub(super) known: Option<&'a str>,
    /// Who owns the table, quoted.
    pub(super) owner: String,
    /// A column that could be taken for a sign that everybody may see the row, and the value that says so, as SQL.
    pub(super) flag: Option<(String, String)>,
    pub(super) policies: &'a [Policy],
}

/// A setting that no platform has, to stand for one that a session may set as it likes.
const BYPASS: &str = "tenancy_mutant.bypass";

impl Subject<'_> {
    /// Every weakening of the table.
    pub(super) fn mutations(&self) -> Vec<Mutation> {
        let mut all = Vec::new();
        let floor: Vec<&Policy> = self.policies.iter().filter(|policy| !policy.permissive).collect();
        for policy in self.policies {
            for (name, weaker, opening) in self.weaker(policy) {
                let mut statements = vec![policy.drop(self.table)];
                statements.extend(weaker.as_ref().map(|weaker| weaker.create(self.table)));
                let object = format!("policy {} on {}", ident(&policy.name), self.table);
                // A second policy hides what the first lets through: each has to hold without the other's help.
                let alone = if policy.permissive {
                    floor.iter().map(|other| other.drop(self.table)).collect()
                } else {
                    vec![self.everything("*", &ident(self.app)).create(self.table)]
                };
                let how =
                    if policy.permissive { "without a restrictive one" } else { "under a permissive true" };
                all.push(Mutation {
                    name: name.into(),
                    object: object.clone(),
                    statements: statements.clone(),
                    opening: opening.clone(),
                });
                if !alone.is_empty() && (weaker.is_some() || !policy.permissive) {
                    all.push(Mutation {
                        name: name.into(),
                        object: format!("{object}, {how}"),
                        statements: alone.into_iter().chain(statements).collect(),
                        opening,
                    });
                }
            }
        }
        all.extend(self.helpers(&floor));
        for (name, command) in [
            ("permissive-all", "*"),
            ("permissive-select", "r"),
            ("permissive-insert", "a"),
            ("permissive-update", "w"),
            ("permissive-delete", "d"),
        ] {
            let create = self.everything(command, &ident(self.app)).create(self.table);
            all.push(self.on_table(name, "", vec![create.clone()]));
            if !floor.is_empty() {
                let mut statements: Vec<String> =
                    floor.iter().map(|policy| policy.drop(self.table)).collect();
                statements.push(create);
                all.push(self.on_table(name, ", without a restrictive policy", statements));
            }
        }
        all.push(self.on_table(
            "permissive-public",
            "",
            vec![self.everything("*", "PUBLIC").create(self.table)],
        ));
        all.extend(self.of_the_table());
        all
    }

    /// A function of the platform's own in the policies, which is not what it should be.
    fn helpers(&self, floor: &[&Policy]) -> Vec<Mutation> {
        let (table, tenant, kind) = (self.table, &self.tenant, self.tenant_type);
        let name = format!("{}.tenancy_mutant", self.schema);
        let create = |volatility: &str| {
            let body = format!("SELECT nullif(current_setting({}, true), '')::{kind}", literal(self.setting));
            format!("CREATE FUNCTION {name}() RETURNS {kind} LANGUAGE sql {volatility} AS {}", literal(&body))
        };
        let theirs = format!("SELECT count(*) FROM {table} AS t WHERE t.{tenant} = {}", KEYS[1]);
        let [a, b] =
            KEYS.map(|key| format!("SELECT pg_catalog.set_config({}, {key}, true)", literal(self.setting)));
        // What was planned while another tenant was served is run for this one.
        let kept = format!(
            "SET LOCAL plan_cache_mode = force_generic_plan; {b}; PREPARE tenancy_mutant AS {theirs}; EXECUTE \
             tenancy_mutant; {a}; EXECUTE tenancy_mutant; \
             DEALLOCATE tenancy_mutant"
        );
        let body = format!("$tenancy$SELECT {}::{kind}$tenancy$", KEYS[1]);
        let replaced = format!(
            "CREATE OR REPLACE FUNCTION {name}() RETURNS {kind} LANGUAGE sql STABLE AS {body}; {theirs}"
        );
        let app = ident(self.app);
        let owned = format!("ALTER FUNCTION {name}() OWNER TO {app}");
        // Whoever owns a function may replace it only where it may create one.
        let creates = format!("GRANT CREATE ON SCHEMA {} TO {app}", self.schema);
        let mut all = Vec::new();
        for policy in self.policies.iter().filter(|policy| policy.permissive) {
            for (mutation, prepared, script) in [
                ("helper-immutable", vec![create("IMMUTABLE")], &kept),
                ("helper-replaceable", vec![create("STABLE"), owned.clone(), creates.clone()], &replaced),
            ] {
                let mut statements: Vec<String> = floor.iter().map(|other| other.drop(table)).collect();
                statements.extend(prepared);
                statements.push(policy.drop(table));
                statements.push(policy.with(|_| format!("{tenant} = (SELECT {name}())")).create(table));
                let object = format!("policy {} on {table}, without a restrictive one", ident(&policy.name));
                let opening = Opening::Script(script.clone());
                all.push(Mutation { name: mutation.into(), object, statements, opening });
            }
        }
        all
    }

    fn everything(&self, command: &str, roles: &str) -> Policy {
        Policy {
            name: "tenancy_mutant".into(),
            permissive: true,
            command: command.into(),
            roles: roles.into(),
            qual: (command != "a").then(|| "true".into()),
            checked: matches!(command, "*" | "a" | "w").then(|| "true".into()),
        }
    }

    fn on_table(&self, name: &str, how: &str, statements: Vec<String>) -> Mutation {
        Mutation {
            name: name.into(),
            object: format!("table {}{how}", self.table),
            statements,
            opening: Opening::None,
        }
    }

    /// Weakenings that leave the policies as they are.
    fn of_the_table(&self) -> Vec<Mutation> {
        let (table, app, tenant) = (self.table, ident(self.app), &self.tenant);
        let alter =
            |name: &str, what: &str| self.on_table(name, "", vec![format!("ALTER TABLE {table} {what}")]);
        let mut all = vec![
            alter("disable-rls", "DISABLE ROW LEVEL SECURITY"),
            alter("no-force", "NO FORCE ROW LEVEL SECURITY"),
            alter("owner-app", &format!("OWNER TO {app}")),
            self.on_table(
                "owner-app-no-force",
                "",
                vec![
                    format!("ALTER TABLE {table} OWNER TO {app}"),
                    format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"),
                ],
            ),
            self.on_table("grant-truncate", "", vec![format!("GRANT TRUNCATE ON {table} TO {app}")]),
            self.on_table(
                "grant-tenant-column",
                "",
                vec![format!("GRANT UPDATE ({tenant}) ON {table} TO {app}")],
            ),
            self.on_table("grant-all", "", vec![format!("GRANT ALL ON {table} TO {app}")]),
            self.on_table("grant-public", "", vec![format!("GRANT ALL ON {table} TO PUBLIC")]),
        ];
        let spy = literal(&format!(
            "BEGIN PERFORM pg_catalog.set_config('tenancy_mutant.seen', OLD.{tenant}::text, true); RETURN NULL; END"
        ));
        // The trigger of one tenant's session sees what another tenant's statement deletes.
        let spied = format!(
            "CREATE FUNCTION pg_temp.tenancy_mutant() RETURNS trigger LANGUAGE plpgsql AS {spy}; CREATE TRIGGER \
             tenancy_mutant AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION pg_temp.tenancy_mutant(); SELECT \
             pg_catalog.set_config({}, {CONTEXT}, true); DELETE FROM {table} WHERE {tenant} = {b}; SELECT \
             (pg_catalog.current_setting('tenancy_mutant.seen', true) = {b}::text)::int",
            literal(self.setting),
            b = KEYS[1]
        );
        all.push(Mutation {
            opening: Opening::Script(spied),
            ..self.on_table("grant-trigger", "", vec![format!("GRANT TRIGGER ON {table} TO {app}")])
        });
        let name = format!("{}.tenancy_mutant", self.schema);
        let door = |mutation: &str, statements: Vec<String>, relation: String| Mutation {
            opening: Opening::Relation(relation),
            ..self.on_table(mutation, "", statements)
        };
        // The door has to stand in a schema that the role may enter anyway.
        all.push(door(
            "definer-view",
            vec![
                format!("CREATE VIEW {name} AS SELECT * FROM {table}"),
                format!("GRANT SELECT ON {name} TO {app}"),
            ],
            name.clone(),
        ));
        all.push(door(
            "invoker-view",
            vec![
                format!("CREATE VIEW {name} WITH (security_invoker = true) AS SELECT * FROM {table}"),
                format!("GRANT SELECT ON {name} TO {app}"),
            ],
            name.clone(),
        ));
        let body = literal(&format!("SELECT * FROM {table}"));
        all.push(door(
            "definer-function",
            vec![
                format!(
                    "CREATE FUNCTION {name}() RETURNS SETOF {table} LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS {body}"
                ),
                format!("GRANT EXECUTE ON FUNCTION {name}() TO {app}"),
            ],
            format!("{name}()"),
        ));
        all
    }

    /// The weaker versions of a policy; nothing where it is dropped.
    fn weaker(&self, policy: &Policy) -> Vec<(&'static str, Option<Policy>, Opening)> {
        let (tenant, kind) = (&self.tenant, self.tenant_type);
        let setting = literal(self.setting);
        let mut all: Vec<(&'static str, Option<Policy>, Opening)> = vec![("drop", None, Opening::None)];
        let mut add = |name, weaker: Policy, opening| {
            if weaker != *policy {
                all.push((name, Some(weaker), opening));
            }
        };
        let or = |term: String| policy.with(|expression| format!("({expression}) OR {term}"));
        add("true", policy.with(|_| "true".into()), Opening::None);
        add("or-true", or("true".into()), Opening::None);
        add("negated", policy.with(|expression| format!("NOT ({expression})")), Opening::None);
        add("not-null", policy.with(|_| format!("{tenant} IS NOT NULL")), Opening::None);
        let context = format!("nullif(current_setting({setting}, true), '')");
        add(
            "coalesce",
            policy.with(|_| format!("{tenant} = coalesce({context}::{kind}, {tenant})")),
            Opening::None,
        );
        add(
            "empty-context",
            or(format!("coalesce(current_setting({setting}, true), '') = ''")),
            Opening::None,
        );
        add("unset-context", or(format!("current_setting({setting}, true) IS NULL")), Opening::Unset);
        add(
            "spoof",
            or(format!("coalesce(current_setting({}, true), '') = 'on'", literal(BYPASS))),
            Opening::Setting(BYPASS, "on"),
        );
        add("role-branch", or(format!("current_user = {}", literal(self.app))), Opening::None);
        if let Some(key) = self.known {
            add("literal-tenant", or(format!("{tenant} = {}", literal(key))), Opening::None);
        }
        let nobody = format!("{tenant} IS NULL");
        let null = Opening::Row { assignment: format!("{tenant} = NULL"), condition: Some(nobody.clone()) };
        add("null-branch", or(nobody), null);
        if let Some((column, value)) = &self.flag {
            let flag = format!("{column} = {value}");
            add("flag-branch", or(flag.clone()), Opening::Row { assignment: flag, condition: None });
        }
        let checked = |to: Option<String>| Policy { checked: to, ..policy.clone() };
        if policy.qual.is_some() && matches!(policy.command.as_str(), "*" | "w") {
            add("no-check", checked(None), Opening::None);
            add("check-true", checked(Some("true".into())), Opening::None);
        }
        if let (Some(check), Some(_)) = (&policy.checked, &policy.qual) {
            add("check-or-true", checked(Some(format!("({check}) OR true"))), Opening::None);
            add("using-true", Policy { qual: Some("true".into()), ..policy.clone() }, Opening::None);
        }
        if policy.roles != "PUBLIC" {
            add("to-public", Policy { roles: "PUBLIC".into(), ..policy.clone() }, Opening::None);
        }
        if policy.permissive {
            return all;
        }
        add("permissive", Policy { permissive: true, ..policy.clone() }, Opening::None);
        add("other-role", Policy { roles: ident(self.home), ..policy.clone() }, Opening::None);
        if policy.command == "*" {
            for (name, command) in
                [("only-select", "r"), ("only-insert", "a"), ("only-update", "w"), ("only-delete", "d")]
            {
                let check = policy.checked.clone().or_else(|| policy.qual.clone());
                let only = Policy {
                    command: command.into(),
                    qual: policy.qual.clone().filter(|_| command != "a"),
                    checked: check.filter(|_| matches!(command, "a" | "w")),
                    ..policy.clone()
                };
                add(name, only, Opening::None);
            }
        }
        all
    }
}

impl Subject<'_> {
    /// A role that may give itself every other one: the table's owner switches the isolation off.
    fn createrole(&self) -> Mutation {
        let (table, owner, app) = (self.table, &self.owner, ident(self.app));
        let script = format!(
            "GRANT {owner} TO {app}; ALTER TABLE {table} DISABLE ROW LEVEL SECURITY; SELECT count(*) FROM {table} AS t \
             WHERE t.{} = {}",
            self.tenant, KEYS[1]
        );
        Mutation {
            name: "createrole".into(),
            object: format!("role {app}"),
            statements: vec![format!("ALTER ROLE {app} CREATEROLE")],
            opening: Opening::Script(script),
        }
    }

    /// Weakenings of the application role itself.
    pub(super) fn of_role(&self, others: &[String]) -> Vec<Mutation> {
        let mut all = of_role(&ident(self.app), others);
        all.push(self.createrole());
        all
    }
}

/// Weakenings of the application role that every intruder's statement shows.
fn of_role(app: &str, others: &[String]) -> Vec<Mutation> {
    let role = |name: &str, statement: String| Mutation {
        name: name.into(),
        object: format!("role {app}"),
        statements: vec![statement],
        opening: Opening::None,
    };
    let mut all = vec![
        role("bypassrls", format!("ALTER ROLE {app} BYPASSRLS")),
        role("superuser", format!("ALTER ROLE {app} SUPERUSER")),
    ];
    for other in others {
        all.push(Mutation {
            object: format!("role {app}, made a member of {other}"),
            ..role("grant-role", format!("GRANT {other} TO {app}"))
        });
    }
    all
}
