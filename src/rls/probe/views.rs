//! Views, read and written through, and materialized views.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;
use sqlx::postgres::types::Oid;

use crate::Result;
use crate::db::quote::{ident, literal};
use crate::rls::probe::attack::counts;
use crate::rls::probe::doors::{Doors, House, Open};
use crate::rls::probe::repro::Shown;
use crate::rls::probe::row::Values;
use crate::rls::probe::runner::{self, Item, Outcome};
use crate::rls::probe::schema::Node;

/// A view or materialized view that a role may use, with the tenant tables behind it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct View {
    pub(crate) oid: Oid,
    pub(crate) name: String,
    pub(crate) role: Oid,
    stored: bool,
    /// Whether it reads with the rights of whoever asks.
    pub(crate) invoker: bool,
    pub(crate) tables: Vec<Oid>,
    selects: bool,
    /// Columns that may be given to INSERT.
    inserts: Vec<String>,
    /// Columns that may be given to UPDATE.
    updates: Vec<String>,
    deletes: bool,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
    /// Gives what it reaches to tenant B.
    Move,
}

/// A statement, as it is tried in the contexts of A, of nobody and of B.
struct Trial<'a> {
    view: &'a View,
    way: Way,
    /// Whether the role holds a right that no statement could be made for.
    untried: bool,
}

/// The views that the roles may use and that lead to the tables.
pub(crate) async fn views(connection: &mut PgConnection, tables: &[Oid], roles: &[Oid]) -> Result<Vec<View>> {
    let query = sqlx::query_as(include_str!("../../../sql/rls/probe/views.sql"));
    Ok(query.bind(tables).bind(roles).fetch_all(connection).await?)
}

impl House<'_> {
    /// Reads every view and writes through it, as its role in the contexts of A and B and in none.
    pub(crate) async fn try_views(&self, connection: &mut PgConnection, views: &[View]) -> Result<Doors> {
        let views: Vec<&View> =
            views.iter().filter(|view| !view.stored && self.first(view).is_some()).collect();
        // What the oracle sees before, behind each view.
        let looks: Vec<Item> = views
            .iter()
            .map(|view| Item {
                attempts: self.look(view).into_iter().collect(),
                returns: true,
                ..Item::default()
            })
            .collect();
        let before = runner::run(connection, &looks).await?;
        let (mut trials, mut items) = (Vec::new(), Vec::new());
        for (view, before) in views.iter().zip(&before) {
            let mut made = Vec::new();
            if view.selects {
                made.extend(self.reading(view).map(|item| (Way::Read, item)));
            }
            let writing = self.writing(view);
            let untried = writing.iter().any(|(_, item)| item.is_none());
            made.extend(writing.into_iter().filter_map(|(way, item)| Some((way, item?))));
            for (way, item) in made {
                let [a, b] = [0, 1].map(|which| self.first(view).and_then(|oid| self.tenant(oid, which)));
                let (Some((_, a)), Some((_, b))) = (a, b) else { continue };
                for context in [Some((0, a)), None, Some((1, b))] {
                    items.push(Item { settings: self.context(context), ..item.clone() });
                }
                trials.push((Trial { view, way, untried }, before));
            }
        }
        let outcomes = runner::run(connection, &items).await?;
        let mut doors = Doors { tried: items.len(), ..Doors::default() };
        let mut unsettled = BTreeSet::new();
        for (((trial, before), items), outcomes) in trials.iter().zip(items.chunks(3)).zip(outcomes.chunks(3))
        {
            let ([in_a, in_none, in_b], [as_a, as_nobody, _]) = (outcomes, items) else { continue };
            let reached = |outcome: &Outcome| self.reached(trial, outcome, before);
            let role = self.roles.get(&trial.view.role.0).map(String::as_str).unwrap_or_default();
            let oid = trial.view.oid.0;
            let leak =
                [(in_a, as_a, "in the context of tenant A"), (in_none, as_nobody, "in an empty context")]
                    .into_iter()
                    .find_map(|(outcome, item, context)| Some((outcome, item, context, reached(outcome)?)));
            if let Some((outcome, item, context, what)) = leak {
                let statement = if trial.way == Way::Read {
                    format!("SELECT * FROM {}", trial.view.name)
                } else {
                    self.shown(trial.view, item.attempts.get(outcome.attempt.unwrap_or_default()))
                };
                if doors.open.iter().all(|open| open.oid != oid) {
                    let evidence = format!("as {role} {context}: {statement} → {what}");
                    let shown = self.showing(trial, item, outcome);
                    let name = trial.view.name.clone();
                    doors.open.push(Open { oid, name, kind: "view", evidence, shown });
                }
            }
            // A statement that failed proves nothing unless it works where it should, or was refused for what it is.
            let works = trial.way == Way::Move || reached(in_b).is_some();
            let refused = in_a.error().is_some_and(|error| matches!(error.code.as_str(), "42501" | "44000"));
            if trial.untried || !(refused || works && in_a.attempt.is_some()) {
                unsettled.insert(oid);
            }
        }
        doors.shut = trials.iter().map(|(trial, _)| trial.view.oid.0).collect();
        doors.shut.retain(|oid| !unsettled.contains(oid) && doors.open.iter().all(|open| open.oid != *oid));
        Ok(doors)
    }

    /// Reads every materialized view in the context of a tenant that was made after it was filled.
    pub(crate) async fn try_stored(&self, connection: &mut PgConnection, views: &[View]) -> Result<Doors> {
        let mut items = Vec::new();
        let mut tried = Vec::new();
        for view in views.iter().filter(|view| view.stored && view.selects) {
            let Some((_, a)) = self.first(view).and_then(|oid| self.tenant(oid, 0)) else { continue };
            items.push(Item {
                attempts: vec![format!(
                    "SELECT pg_catalog.json_build_array(0, count(*)) FROM (SELECT FROM {} LIMIT 100) AS s",
                    view.name
                )],
                returns: true,
                role: self.roles.get(&view.role.0).cloned(),
                settings: self.context(Some((0, a))),
                ..Item::default()
            });
            tried.push(view);
        }
        let mut doors = Doors { tried: items.len(), ..Doors::default() };
        let outcomes = runner::run(connection, &items).await?;
        for ((view, item), outcome) in tried.into_iter().zip(&items).zip(outcomes) {
            let [_, rows] = counts(&outcome);
            if rows > 0 && doors.open.iter().all(|open| open.oid != view.oid.0) {
                let role = self.roles.get(&view.role.0).map(String::as_str).unwrap_or_default();
                let evidence = format!(
                    "as {role} in the context of tenant A, who has no row in it: SELECT * FROM {} → {rows} rows",
                    view.name
                );
                let statement = format!("SELECT * FROM {}", view.name);
                doors.open.push(Open {
                    oid: view.oid.0,
                    name: view.name.clone(),
                    kind: "materialized view",
                    evidence,
                    shown: Shown::of(item, statement, None)
                        .with_rows_of(view.tables.iter().map(|oid| oid.0).collect()),
                });
            }
        }
        Ok(doors)
    }

    /// The first table behind the view that has canaries.
    fn first(&self, view: &View) -> Option<u32> {
        view.tables.iter().map(|oid| oid.0).find(|oid| self.canaries.rows.contains_key(oid))
    }

    fn look(&self, view: &View) -> Option<String> {
        self.versions(view.tables.iter().map(|oid| oid.0))
    }

    fn reading(&self, view: &View) -> Option<Item> {
        let first = self.first(view)?;
        let ((column, a), (_, b)) = (self.tenant(first, 0)?, self.tenant(first, 1)?);
        let marks = |which| {
            let of_all = view.tables.iter().flat_map(|oid| self.markers(oid.0, which));
            let terms: Vec<String> =
                of_all.map(|marker| format!("pg_catalog.strpos(s.t, {}) > 0", literal(&marker))).collect();
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
        Some(Item { attempts, returns: true, role: self.roles.get(&view.role.0).cloned(), ..Item::default() })
    }

    /// A statement for each command that the role may use; none where no statement could be made.
    fn writing(&self, view: &View) -> Vec<(Way, Option<Item>)> {
        let base = Item {
            role: self.roles.get(&view.role.0).cloned(),
            oracle: self.look(view),
            always: true,
            ..Item::default()
        };
        let clear: Vec<String> =
            view.tables.iter().filter_map(|oid| self.clear.get(&oid.0)).flatten().cloned().collect();
        let mut made = Vec::new();
        let name = &view.name;
        if !view.inserts.is_empty() {
            let attempts = self.planted(view).map(|row| vec![format!("INSERT INTO {name} {row}")]);
            made.push((Way::Write, attempts.map(|attempts| Item { attempts, ..base.clone() })));
        }
        if !view.updates.is_empty() {
            let tenant = self.first(view).and_then(|oid| self.tenant(oid, 1));
            let (keys, others): (Vec<_>, Vec<_>) = view
                .updates
                .iter()
                .partition(|column| tenant.is_some_and(|(tenant, _)| tenant == column.as_str()));
            let others: Vec<&String> = others.into_iter().chain(keys.iter().copied()).collect();
            let attempts = self.changed(view, &others);
            let item = (!attempts.is_empty()).then(|| Item { attempts, ..base.clone() });
            made.push((Way::Write, item));
            if !keys.is_empty() {
                made.push((
                    Way::Move,
                    self.moved(view).map(|(prep, attempts)| {
                        let prep = clear.iter().cloned().chain([prep]).collect();
                        Item { attempts, prep, ..base.clone() }
                    }),
                ));
            }
        }
        if view.deletes {
            let attempts = vec![format!("DELETE FROM {name}")];
            made.push((Way::Write, Some(Item { attempts, prep: clear, ..base })));
        }
        made
    }

    /// A row of B for a view whose columns are called as those of a table behind it.
    fn planted(&self, view: &View) -> Option<String> {
        let fitting = |oid: &Oid| -> Option<(usize, String)> {
            let node = self.nodes.get(&oid.0)?;
            let row = self.canaries.spares.get(&oid.0)?.get(1)?.as_ref()?;
            let (tenant, _) = self.tenant(oid.0, 1)?;
            view.inserts.iter().any(|column| column == tenant).then(|| given(node, row, &view.inserts))
        };
        view.tables.iter().filter_map(fitting).max_by_key(|(columns, _)| *columns).map(|(_, row)| row)
    }

    /// Statements that change rows where they are: to a value that is known, or to what they hold already, which takes
    /// the right to read it.
    fn changed(&self, view: &View, columns: &[&String]) -> Vec<String> {
        let known = |name: &String| {
            let first = self.first(view)?;
            let node = self.nodes.get(&first)?;
            let column = node.columns.iter().find(|column| column.name == *name)?;
            if Some(column.attnum) == node.tenant || node.unique_columns().contains(&column.attnum) {
                return None;
            }
            let value = self.canaries.rows.get(&first)?[0].get(node.position(column.attnum)?)?;
            Some(format!("{} = {}", ident(name), value.as_deref().map_or("NULL".into(), literal)))
        };
        let same = columns.iter().filter(|_| view.selects).map(|name| format!("{0} = {0}", ident(name)));
        let sets = columns.iter().filter_map(|name| known(name)).chain(same);
        sets.map(|set| format!("UPDATE {} SET {set}", view.name)).collect()
    }

    /// What makes room for A's row at B's, and statements that give it to B.
    fn moved(&self, view: &View) -> Option<(String, Vec<String>)> {
        let first = self.first(view)?;
        let node = self.nodes.get(&first)?;
        let row = &self.canaries.rows.get(&first)?[1];
        let (tenant, b) = self.tenant(first, 1)?;
        let plain = format!("{} = {}", ident(tenant), literal(b));
        // Along with the references that carry the tenant, so that they do not stand in the way.
        let carried: BTreeSet<i16> = node
            .references()
            .filter(|key| key.columns.iter().any(|column| Some(*column) == node.tenant))
            .flat_map(|key| key.columns.iter().copied())
            .filter(|column| Some(*column) != node.tenant)
            .collect();
        let mut whole = vec![plain.clone()];
        for column in carried {
            let name = &node.column(column)?.name;
            if view.updates.contains(name) {
                let value = row.get(node.position(column)?)?.as_deref().map_or("NULL".into(), literal);
                whole.push(format!("{} = {value}", ident(name)));
            }
        }
        let update = |set: &str| format!("UPDATE {} SET {set}", view.name);
        let prep = format!("DELETE FROM {} WHERE {plain}", node.name);
        Some((prep, vec![update(&whole.join(", ")), update(&plain)]))
    }

    /// What a statement reached of tenant B, if anything.
    fn reached(&self, trial: &Trial<'_>, outcome: &Outcome, before: &Outcome) -> Option<String> {
        if trial.way == Way::Read {
            let [_, b] = counts(outcome);
            return (b > 0).then(|| format!("{b} rows of tenant B"));
        }
        let before = outcome.before.as_ref().or(before.answer.as_ref())?;
        let seen = outcome.seen.as_ref()?;
        (seen != before).then(|| "tenant B's rows change".to_string())
    }

    /// The statement that got through, for a script.
    fn showing(&self, trial: &Trial<'_>, item: &Item, outcome: &Outcome) -> Shown {
        let view = trial.view;
        let tables: Vec<u32> = view.tables.iter().map(|oid| oid.0).collect();
        let at = outcome.attempt.unwrap_or_default();
        let tenant = self.first(view).and_then(|oid| self.tenant(oid, 1));
        let shown = match (trial.way, tenant) {
            // The first attempt knows rows by the tenant column; without one all of them are shown.
            (Way::Read, Some((column, b))) if at == 0 => {
                let statement =
                    format!("SELECT * FROM {} AS v WHERE v.{} = {}", view.name, ident(column), literal(b));
                Shown::of(item, statement, None)
            }
            (Way::Read, _) => Shown::of(item, format!("SELECT * FROM {}", view.name), None),
            (Way::Write | Way::Move, _) => {
                let statement = item.attempts.get(at).cloned().unwrap_or_default();
                Shown::of(item, statement, self.theirs(tables.iter().copied()))
            }
        };
        shown.with_rows_of(tables)
    }

    fn shown(&self, view: &View, statement: Option<&String>) -> String {
        let mut shown = statement.cloned().unwrap_or_default();
        if let Some((_, b)) = self.first(view).and_then(|oid| self.tenant(oid, 1)) {
            shown = shown.replace(b, "<tenant B>");
        }
        shown
    }
}

/// Those of the columns that the table has as well, and the row's values in them.
fn given(node: &Node, row: &Values, wanted: &[String]) -> (usize, String) {
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for (column, value) in node.columns.iter().zip(row) {
        if !column.is_generated && wanted.contains(&column.name) {
            columns.push(ident(&column.name));
            values.push(value.as_deref().map_or("NULL".into(), literal));
        }
    }
    let row = format!("({}) OVERRIDING SYSTEM VALUE VALUES ({})", columns.join(", "), values.join(", "));
    (columns.len(), row)
}
