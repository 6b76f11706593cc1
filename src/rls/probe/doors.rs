//! Ways to a table that are not the table: views, and functions that run with their owner's rights.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;
use crate::db::quote::{ident, literal};
use crate::rls::contract::Acting;
use crate::rls::probe::attack::counts;
use crate::rls::probe::runner::{self, Item};
use crate::rls::probe::schema::Node;
use crate::rls::probe::seed::Canaries;

/// A view that a role may read, with the tenant tables behind it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct View {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) role: Oid,
    writable: bool,
    tables: Vec<Oid>,
}

/// A SECURITY DEFINER function or procedure that a role may call.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Function {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    call: String,
    is_procedure: bool,
    arguments: Vec<String>,
}

/// What was found behind the doors.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// Object, name and evidence of each door that led to another tenant's rows.
    pub(crate) open: Vec<(u32, String, &'static str, String)>,
    /// Doors that were tried and led nowhere.
    pub(crate) shut: BTreeSet<u32>,
    /// How many statements were tried.
    pub(crate) tried: usize,
}

/// Where the doors lead: the rows behind them, as whom and in which context to try them.
#[derive(Debug)]
pub(crate) struct House<'a> {
    pub(crate) nodes: &'a BTreeMap<u32, Node>,
    pub(crate) canaries: &'a Canaries,
    pub(crate) acting: &'a Acting,
    /// Name of each role, by oid.
    pub(crate) roles: &'a BTreeMap<u32, String>,
}

/// The views that the roles may read and that lead to the tables.
pub(crate) async fn views(connection: &mut PgConnection, tables: &[Oid], roles: &[Oid]) -> Result<Vec<View>> {
    let query = sqlx::query_as(include_str!("../../../sql/rls/probe/views.sql"));
    Ok(query.bind(tables).bind(roles).fetch_all(connection).await?)
}

/// The functions that the role may call.
pub(crate) async fn functions(connection: &mut PgConnection, role: Oid) -> Result<Vec<Function>> {
    let query = sqlx::query_as(include_str!("../../../sql/rls/probe/functions.sql"));
    Ok(query.bind(role).fetch_all(connection).await?)
}

impl House<'_> {
    fn tenant(&self, oid: u32, which: usize) -> Option<(&str, &str)> {
        let node = self.nodes.get(&oid)?;
        let attnum = node.tenant?;
        let value = self.canaries.rows.get(&oid)?[which].get(node.position(attnum)?)?.as_deref()?;
        Some((node.column(attnum)?.name.as_str(), value))
    }

    /// Values by which a row of a tenant is known wherever it turns up.
    fn markers(&self, oid: u32, which: usize) -> Vec<String> {
        let Some(rows) = self.canaries.rows.get(&oid) else { return Vec::new() };
        let other: BTreeSet<&String> = rows[1 - which].iter().flatten().collect();
        let own =
            rows[which].iter().flatten().filter(|value| value.chars().count() >= 8 && !other.contains(value));
        own.take(6).cloned().collect()
    }

    /// The settings of A (0) or B (1), who has this key, or of nobody.
    fn context(&self, tenant: Option<(usize, &str)>) -> BTreeMap<String, String> {
        tenant.map_or_else(|| self.acting.blank(), |(which, key)| self.acting.tenant(key, which))
    }

    /// Reads every view as its role in the contexts of A and B and in none, and as the oracle.
    pub(crate) async fn try_views(&self, connection: &mut PgConnection, views: &[View]) -> Result<Doors> {
        let mut doors = Doors::default();
        let mut tried = Vec::new();
        let mut items = Vec::new();
        for view in views {
            let Some(table) = view.tables.iter().find(|oid| self.canaries.rows.contains_key(&oid.0)) else {
                continue;
            };
            let (Some((column, a)), Some((_, b))) = (self.tenant(table.0, 0), self.tenant(table.0, 1)) else {
                continue;
            };
            let marks = |which| {
                let of_all = view.tables.iter().flat_map(|oid| self.markers(oid.0, which));
                let terms: Vec<String> = of_all
                    .map(|marker| format!("pg_catalog.strpos(s.t, {}) > 0", literal(&marker)))
                    .collect();
                if terms.is_empty() { "false".to_string() } else { terms.join(" OR ") }
            };
            let (column, name) = (ident(column), &view.name);
            let attempts = vec![
                format!(
                    "SELECT pg_catalog.json_build_array(count(*) FILTER (WHERE v.{column} = {a}), count(*) FILTER (WHERE \
                     v.{column} = {b})) FROM {name} AS v WHERE v.{column} IN ({a}, {b})",
                    a = literal(a),
                    b = literal(b)
                ),
                format!(
                    "SELECT pg_catalog.json_build_array(count(*) FILTER (WHERE {}), count(*) FILTER (WHERE {})) FROM \
                     (SELECT v::text AS t FROM {name} AS v) AS s",
                    marks(0),
                    marks(1)
                ),
            ];
            let role = self.roles.get(&view.role.0).cloned();
            let (in_a, in_b) = (Some((0, a)), Some((1, b)));
            for (role, context) in [(role.clone(), in_a), (role.clone(), None), (role, in_b), (None, in_b)] {
                items.push(Item {
                    attempts: attempts.clone(),
                    returns: true,
                    role,
                    settings: self.context(context),
                    ..Item::default()
                });
            }
            tried.push(view);
        }
        doors.tried = items.len();
        let outcomes = runner::run(connection, &items).await?;
        for (view, outcomes) in tried.into_iter().zip(outcomes.chunks(4)) {
            let [in_a, in_none, in_b, oracle] = outcomes else { continue };
            let role = self.roles.get(&view.role.0).map(String::as_str).unwrap_or_default();
            let leak = [(in_a, "in the context of tenant A"), (in_none, "in an empty context")]
                .into_iter()
                .find(|(outcome, _)| counts(outcome)[1] > 0);
            if let Some((outcome, context)) = leak {
                let evidence = format!(
                    "as {role} {context}: SELECT * FROM {} → {} rows of tenant B",
                    view.name,
                    counts(outcome)[1]
                );
                doors.open.push((view.oid.0, view.name.clone(), "view", evidence));
            } else if !view.writable
                && in_a.attempt.is_some()
                && (counts(in_b)[1] > 0 || counts(oracle)[1] > 0)
            {
                doors.shut.insert(view.oid.0);
            }
        }
        doors.shut.retain(|oid| doors.open.iter().all(|(open, ..)| open != oid));
        Ok(doors)
    }

    /// What the oracle sees of tenant B's rows, in all tables.
    fn versions(&self) -> Option<String> {
        let of = |oid: &u32| {
            let (column, value) = self.tenant(*oid, 1)?;
            let name = &self.nodes.get(oid)?.name;
            Some(format!("SELECT tableoid, ctid FROM {name} WHERE {} = {}", ident(column), literal(value)))
        };
        let rows: Vec<String> = self.canaries.rows.keys().filter_map(of).collect();
        (!rows.is_empty()).then(|| {
            format!(
                "SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(concat(tableoid, ctid), ' ' ORDER BY tableoid, \
                 ctid), '')) FROM ({}) AS s",
                rows.join(" UNION ALL ")
            )
        })
    }

    /// Calls every function as the role in the contexts of A and of B, with B's keys, patterns and nothing as
    /// arguments, and looks whether B's rows come back or change.
    pub(crate) async fn try_functions(
        &self,
        connection: &mut PgConnection,
        role: &str,
        functions: &[Function],
    ) -> Result<Doors> {
        let mut doors = Doors::default();
        let keyed = self
            .canaries
            .rows
            .keys()
            .find_map(|oid| Some([self.tenant(*oid, 0)?.1, self.tenant(*oid, 1)?.1]));
        let (Some([a, b]), Some(versions)) = (keyed, self.versions()) else { return Ok(doors) };
        let markers: Vec<String> = self.canaries.rows.keys().flat_map(|oid| self.markers(*oid, 1)).collect();
        let look = Item { attempts: vec![versions.clone()], returns: true, ..Item::default() };
        let baseline = runner::run(connection, &[look]).await?.pop().and_then(|outcome| outcome.answer);
        let mut items = Vec::new();
        let mut tried = Vec::new();
        for function in functions {
            for given in [Some(b), Some("%"), None] {
                if function.arguments.is_empty() && given.is_some() {
                    continue;
                }
                for context in [(0, a), (1, b)] {
                    items.push(self.call(
                        function,
                        role,
                        context,
                        given,
                        baseline.as_ref().map(|_| &versions),
                    ));
                    tried.push((function, given, context.0 == 0));
                }
            }
        }
        doors.tried = items.len();
        let outcomes = runner::run(connection, &items).await?;
        // Functions that worked in A's context without a trace of B, and that show B's rows in B's.
        let (mut ran, mut controls) = (BTreeSet::new(), BTreeSet::new());
        for (((function, given, is_attack), item), outcome) in tried.into_iter().zip(&items).zip(outcomes) {
            let answer = outcome.answer.unwrap_or_default();
            // What was handed in proves nothing when it comes back.
            let shown = markers
                .iter()
                .any(|marker| given.is_none_or(|given| given != marker) && answer.contains(marker.as_str()));
            let changed = outcome.seen.is_some() && outcome.seen != baseline;
            if (shown || changed) && is_attack {
                let what = if shown { "rows of tenant B" } else { "rows of tenant B change" };
                let call =
                    item.attempts.first().map(|call| call.replace(b, "<tenant B>")).unwrap_or_default();
                let evidence = format!("as {role} in the context of tenant A: {call} → {what}");
                let kind = if function.is_procedure { "procedure" } else { "function" };
                if doors.open.iter().all(|(oid, ..)| *oid != function.oid.0) {
                    doors.open.push((function.oid.0, function.name.clone(), kind, evidence));
                }
            } else if is_attack && outcome.attempt.is_some() {
                ran.insert((function.oid.0, given));
            } else if shown || changed {
                controls.insert((function.oid.0, given));
            }
        }
        doors.shut.extend(ran.intersection(&controls).map(|(oid, _)| *oid));
        doors.shut.retain(|oid| doors.open.iter().all(|(open, ..)| open != oid));
        Ok(doors)
    }

    fn call(
        &self,
        function: &Function,
        role: &str,
        context: (usize, &str),
        given: Option<&str>,
        oracle: Option<&String>,
    ) -> Item {
        let argument = |kind: &String| match (kind.as_str(), given) {
            ("text" | "character varying" | "character" | "name", Some(value)) => {
                format!("{}::{kind}", literal(value))
            }
            ("uuid" | "bigint" | "integer" | "numeric" | "smallint", Some(value)) if value != "%" => {
                format!("{}::{kind}", literal(value))
            }
            (kind, _) => format!("NULL::{kind}"),
        };
        let arguments: Vec<String> = function.arguments.iter().map(argument).collect();
        let call = format!("{}({})", function.call, arguments.join(", "));
        let statement = if function.is_procedure {
            format!("CALL {call}")
        } else {
            format!("SELECT coalesce(pg_catalog.string_agg(f::text, ' '), '') FROM {call} AS f")
        };
        Item {
            attempts: vec![statement],
            returns: !function.is_procedure,
            always: true,
            role: Some(role.to_string()),
            settings: self.context(Some(context)),
            oracle: oracle.cloned(),
            ..Item::default()
        }
    }
}
