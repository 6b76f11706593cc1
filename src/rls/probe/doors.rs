//! Ways to a table that are not the table, and what the ways have in common; functions that run with their owner's
//! rights.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;
use crate::db::quote::{ident, literal};
use crate::rls::contract::Acting;
use crate::rls::probe::repro::Shown;
use crate::rls::probe::runner::{self, Item};
use crate::rls::probe::schema::Node;
use crate::rls::probe::seed::Canaries;

/// A SECURITY DEFINER function or procedure that a role may call.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Function {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    /// Who may call it.
    role: Oid,
    call: String,
    is_procedure: bool,
    arguments: Vec<String>,
}

/// A door that led to another tenant's rows.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) oid: u32,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) evidence: String,
    pub(crate) shown: Shown,
}

/// What was found behind the doors.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// Those that led to another tenant's rows.
    pub(crate) open: Vec<Open>,
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
    /// Statements that take away what references a table.
    pub(crate) clear: &'a BTreeMap<u32, Vec<String>>,
}

/// The functions that the roles may call.
pub(crate) async fn functions(connection: &mut PgConnection, roles: &[Oid]) -> Result<Vec<Function>> {
    let query = sqlx::query_as(include_str!("../../../sql/rls/probe/functions.sql"));
    Ok(query.bind(roles).fetch_all(connection).await?)
}

impl House<'_> {
    /// Name and value of the tenant column, for A (0) or B (1).
    pub(crate) fn tenant(&self, oid: u32, which: usize) -> Option<(&str, &str)> {
        let node = self.nodes.get(&oid)?;
        let attnum = node.tenant?;
        let value = self.canaries.rows.get(&oid)?[which].get(node.position(attnum)?)?.as_deref()?;
        Some((node.column(attnum)?.name.as_str(), value))
    }

    /// Values by which a row of a tenant is known wherever it turns up.
    pub(crate) fn markers(&self, oid: u32, which: usize) -> Vec<String> {
        let Some(rows) = self.canaries.rows.get(&oid) else { return Vec::new() };
        let other: BTreeSet<&String> = rows[1 - which].iter().flatten().collect();
        let own =
            rows[which].iter().flatten().filter(|value| value.chars().count() >= 8 && !other.contains(value));
        own.take(6).cloned().collect()
    }

    /// The settings of A (0) or B (1), who has this key, or of nobody.
    pub(crate) fn context(&self, tenant: Option<(usize, &str)>) -> BTreeMap<String, String> {
        tenant.map_or_else(|| self.acting.blank(), |(which, key)| self.acting.tenant(key, which))
    }

    /// What the oracle sees of tenant B's rows, in these tables.
    pub(crate) fn versions(&self, tables: impl Iterator<Item = u32>) -> Option<String> {
        let of = |oid: u32| {
            let (column, value) = self.tenant(oid, 1)?;
            let name = &self.nodes.get(&oid)?.name;
            Some(format!("SELECT tableoid, ctid FROM {name} WHERE {} = {}", ident(column), literal(value)))
        };
        let rows: Vec<String> = tables.filter_map(of).collect();
        (!rows.is_empty()).then(|| {
            format!(
                "SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(concat(tableoid, ctid), ' ' ORDER BY tableoid, \
                 ctid), '')) FROM ({}) AS s",
                rows.join(" UNION ALL ")
            )
        })
    }

    /// A query for the rows that tenant B has in these tables.
    pub(crate) fn theirs(&self, tables: impl Iterator<Item = u32>) -> Option<String> {
        let of = |oid: u32| {
            let (column, value) = self.tenant(oid, 1)?;
            let (name, column) = (&self.nodes.get(&oid)?.name, ident(column));
            Some(format!(
                "SELECT tableoid::pg_catalog.regclass, ctid, t::text FROM {name} AS t WHERE t.{column} = {}",
                literal(value)
            ))
        };
        let rows: Vec<String> = tables.filter_map(of).collect();
        (!rows.is_empty()).then(|| rows.join(" UNION ALL "))
    }

    /// Calls every function as its role in the contexts of A and of B, with B's keys, patterns and nothing as
    /// arguments, and looks whether B's rows come back or change.
    pub(crate) async fn try_functions(
        &self,
        connection: &mut PgConnection,
        functions: &[Function],
    ) -> Result<Doors> {
        let mut doors = Doors::default();
        let keyed = self
            .canaries
            .rows
            .keys()
            .find_map(|oid| Some([self.tenant(*oid, 0)?.1, self.tenant(*oid, 1)?.1]));
        let (Some([a, b]), Some(versions)) = (keyed, self.versions(self.canaries.rows.keys().copied()))
        else {
            return Ok(doors);
        };
        let markers: Vec<String> = self.canaries.rows.keys().flat_map(|oid| self.markers(*oid, 1)).collect();
        let look = Item { attempts: vec![versions.clone()], returns: true, ..Item::default() };
        let baseline = runner::run(connection, &[look]).await?.pop().and_then(|outcome| outcome.answer);
        let mut items = Vec::new();
        let mut tried = Vec::new();
        for function in functions {
            let Some(role) = self.roles.get(&function.role.0) else { continue };
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
                    tried.push((function, role, given, context.0 == 0));
                }
            }
        }
        doors.tried = items.len();
        let outcomes = runner::run(connection, &items).await?;
        // Functions that worked in A's context without a trace of B, and that show B's rows in B's.
        let (mut ran, mut controls) = (BTreeSet::new(), BTreeSet::new());
        for (((function, role, given, is_attack), item), outcome) in
            tried.into_iter().zip(&items).zip(outcomes)
        {
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
                if doors.open.iter().all(|open| open.oid != function.oid.0) {
                    let rows = if shown { None } else { self.theirs(self.canaries.rows.keys().copied()) };
                    let called = Self::called(function, given);
                    let statement = if function.is_procedure {
                        format!("CALL {called}")
                    } else {
                        format!("SELECT * FROM {called}")
                    };
                    doors.open.push(Open {
                        oid: function.oid.0,
                        name: function.name.clone(),
                        kind,
                        evidence,
                        shown: Shown::of(item, statement, rows),
                    });
                }
            } else if is_attack && outcome.attempt.is_some() {
                ran.insert((function.oid.0, function.role.0, given));
            } else if shown || changed {
                controls.insert((function.oid.0, function.role.0, given));
            }
        }
        let proven: BTreeSet<_> = ran.intersection(&controls).map(|(oid, role, _)| (*oid, *role)).collect();
        doors.shut.extend(functions.iter().map(|function| function.oid.0));
        let unproven =
            functions.iter().filter(|function| !proven.contains(&(function.oid.0, function.role.0)));
        for oid in unproven.map(|function| function.oid.0).chain(doors.open.iter().map(|open| open.oid)) {
            doors.shut.remove(&oid);
        }
        Ok(doors)
    }

    /// The call itself, with the argument that is given where it fits.
    fn called(function: &Function, given: Option<&str>) -> String {
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
        format!("{}({})", function.call, arguments.join(", "))
    }

    fn call(
        &self,
        function: &Function,
        role: &str,
        context: (usize, &str),
        given: Option<&str>,
        oracle: Option<&String>,
    ) -> Item {
        let call = Self::called(function, given);
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
