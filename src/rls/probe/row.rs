//! One row to be made: which value goes into which column, and what to change when a constraint says no.

use std::collections::{BTreeMap, BTreeSet};

use crate::db::quote::{ident, literal};
use crate::rls::probe::runner::Outcome;
use crate::rls::probe::schema::{Column, Node};
use crate::rls::probe::values::{Unique, candidates};

/// A row's values as text, in the order of the table's columns.
pub(crate) type Values = Vec<Option<String>>;

/// How many variants of a row are tried in one round.
const VARIANTS: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// A row that is there, for the tables that tenants share.
    Existing,
    /// A copy of a row that is there, under the new keys.
    Copy,
    /// What has no default and may not be NULL.
    Least,
    /// A value in every column.
    Full,
}

/// One row to be made.
#[derive(Debug, Clone)]
pub(crate) struct Plan<'a> {
    pub(crate) node: &'a Node,
    /// 0 for tenant A, 1 for tenant B.
    pub(crate) tenant: usize,
    fixed: BTreeMap<i16, Option<String>>,
    /// Columns that reference another column of the same row.
    own: Vec<(i16, i16)>,
    unique_columns: BTreeSet<i16>,
    /// Columns that must not be left to their default.
    forced: BTreeSet<i16>,
    choice: BTreeMap<i16, usize>,
    /// The columns that the last refusal was about, and how many variants of them were tried.
    varied: Vec<i16>,
    tried: BTreeMap<Vec<i16>, usize>,
    shape: Option<Shape>,
    sent: Vec<(Shape, BTreeMap<i16, usize>)>,
}

impl<'a> Plan<'a> {
    /// The same, with a value in these columns too if that can be.
    pub(crate) fn force(mut self, columns: BTreeSet<i16>) -> Self {
        self.forced.extend(columns);
        self
    }

    /// A plan with the values that are given.
    pub(crate) fn new(
        node: &'a Node,
        tenant: usize,
        fixed: BTreeMap<i16, Option<String>>,
        own: Vec<(i16, i16)>,
    ) -> Self {
        Self {
            node,
            tenant,
            fixed,
            own,
            unique_columns: node.unique_columns(),
            forced: BTreeSet::new(),
            choice: BTreeMap::new(),
            varied: Vec::new(),
            tried: BTreeMap::new(),
            shape: None,
            sent: Vec::new(),
        }
    }

    /// Takes over what worked for another row of the same table.
    pub(crate) fn learn(mut self, other: &Plan<'_>) -> Self {
        self.forced.clone_from(&other.forced);
        self.choice.clone_from(&other.choice);
        self.shape = other.shape;
        self
    }

    /// Notes which of the statements sent last made the row.
    pub(crate) fn worked(&mut self, at: usize) {
        if let Some((shape, choice)) = self.sent.get(at).cloned() {
            self.shape = Some(shape);
            self.choice = choice;
        }
    }

    /// The statements to try in a round, each returning the row as a JSON array of texts.
    pub(crate) fn statements(&mut self, round: usize) -> Vec<String> {
        self.sent.clear();
        let shapes = match self.shape {
            Some(shape) if round == 0 => vec![shape],
            _ if round == 0 && self.node.tenant.is_none() => {
                vec![Shape::Existing, Shape::Least, Shape::Full]
            }
            _ if round == 0 => vec![Shape::Copy, Shape::Least, Shape::Full],
            _ => Vec::new(),
        };
        for shape in shapes {
            self.sent.push((shape, self.choice.clone()));
        }
        if round > 0 {
            let varied = self.varied.clone();
            let from = self.tried.get(&varied).copied().unwrap_or(0);
            for step in 0..VARIANTS {
                let choice = self.variant(&varied, from + step);
                for shape in [Shape::Least, Shape::Full] {
                    // A variant that changes nothing is worth one try.
                    if step == 0 || !varied.is_empty() {
                        self.sent.push((shape, choice.clone()));
                    }
                }
            }
            self.tried.insert(varied, from + VARIANTS);
        }
        self.sent.iter().map(|(shape, choice)| self.statement(*shape, choice)).collect()
    }

    /// The n-th combination of candidates of the columns.
    fn variant(&self, columns: &[i16], n: usize) -> BTreeMap<i16, usize> {
        let mut choice = self.choice.clone();
        let mut rest = n;
        for attnum in columns {
            let count = self
                .node
                .column(*attnum)
                .map_or(1, |column| self.values(column, &Unique::new()).len().max(1));
            choice.insert(*attnum, rest % count);
            rest /= count;
        }
        choice
    }

    /// What may go into the column, best first; NULL soon, where a constraint wants the column varied.
    fn values(&self, column: &Column, unique: &Unique) -> Vec<Option<String>> {
        let is_key = self.unique_columns.contains(&column.attnum) || column.is_identity || column.is_serial;
        let mut values: Vec<Option<String>> =
            candidates(self.node, column, unique, is_key).into_iter().map(Some).collect();
        if !column.not_null && self.forced.contains(&column.attnum) {
            values.insert(values.len().min(1), None);
        }
        values
    }

    /// Learns from refusals what to change. True where nothing that could be changed would help.
    pub(crate) fn learn_from(&mut self, outcome: &Outcome) -> bool {
        let mut hopeless = true;
        // Checks are looked at in the order of their names, after casts: the last one that was reached is the furthest
        // that a variant got.
        let mut furthest: Option<((bool, String), Vec<i16>, usize)> = None;
        for (at, refusal) in outcome.refused.iter().enumerate() {
            if self.sent.get(at).is_none_or(|(shape, _)| matches!(shape, Shape::Copy | Shape::Existing)) {
                continue;
            }
            let columns: Vec<i16> = match refusal.code.as_str() {
                "23502" => {
                    if let Some(column) =
                        self.node.columns.iter().find(|column| column.name == refusal.column)
                    {
                        hopeless &= !self.forced.insert(column.attnum);
                    }
                    continue;
                }
                "23514" | "23505" | "23P01" => self.concerned(&refusal.constraint),
                code if code.starts_with("22") => self.free(|_| true),
                // A trigger of the application's own, or something unheard of: it may like a fuller row.
                _ => continue,
            };
            if columns.is_empty() {
                continue;
            }
            hopeless = false;
            let is_of_table = self.node.constraints.iter().any(|known| known.name == refusal.constraint);
            let rank = (is_of_table, refusal.constraint.clone());
            if furthest.as_ref().is_none_or(|(best, _, _)| *best < rank) {
                furthest = Some((rank, columns, at));
            }
        }
        if let Some((_, columns, at)) = furthest {
            self.forced.extend(columns.iter().copied());
            if columns != self.varied {
                if let Some((_, choice)) = self.sent.get(at) {
                    self.choice.clone_from(choice);
                }
                self.varied = columns;
            }
        }
        hopeless
    }

    /// The columns that a constraint looks at and that are free to vary.
    fn concerned(&self, constraint: &str) -> Vec<i16> {
        match self.node.constraints.iter().find(|candidate| candidate.name == constraint) {
            Some(found) => self.free(|column| found.columns.contains(&column.attnum)),
            // A domain's check, or the bounds of a partition.
            None => self.free(|column| {
                !column.domain_checks.is_empty() || self.node.partition_keys.contains(&column.attnum)
            }),
        }
    }

    fn free(&self, wanted: impl Fn(&Column) -> bool) -> Vec<i16> {
        let columns = self.node.columns.iter().filter(|column| !column.is_generated && wanted(column));
        columns
            .map(|column| column.attnum)
            .filter(|attnum| !self.fixed.contains_key(attnum))
            .take(6)
            .collect()
    }

    /// Why no row was made: what the database said to the plainest attempt.
    pub(crate) fn reason(&self, outcome: &Outcome) -> String {
        let plain = outcome
            .refused
            .iter()
            .enumerate()
            .find(|(at, _)| self.sent.get(*at).is_some_and(|(shape, _)| matches!(shape, Shape::Least)));
        match plain.map(|(_, refusal)| refusal).or(outcome.error()) {
            Some(refusal) => format!("no row could be made: {} ({})", refusal.message, refusal.code),
            None => "no row could be made".into(),
        }
    }

    fn statement(&self, shape: Shape, choice: &BTreeMap<i16, usize>) -> String {
        let name = &self.node.name;
        let returned: Vec<String> =
            self.node.columns.iter().map(|column| format!("{}::text", ident(&column.name))).collect();
        let whole = format!("pg_catalog.to_json(ARRAY[{}]::text[])::text", returned.join(", "));
        if shape == Shape::Existing {
            return format!("SELECT {whole} FROM {name} LIMIT 1");
        }
        let cells = self.cells(shape, choice);
        let columns: Vec<String> = cells.iter().map(|(column, _)| ident(&column.name)).collect();
        let values: Vec<&str> = cells.iter().map(|(_, value)| value.as_str()).collect();
        let body = match shape {
            _ if cells.is_empty() => "DEFAULT VALUES".to_string(),
            Shape::Copy => format!(
                "({}) OVERRIDING SYSTEM VALUE SELECT {} FROM (SELECT * FROM {name} LIMIT 1) AS s",
                columns.join(", "),
                values.join(", ")
            ),
            _ => format!("({}) OVERRIDING SYSTEM VALUE VALUES ({})", columns.join(", "), values.join(", ")),
        };
        let tenant = self.node.tenant.and_then(|attnum| self.node.column(attnum));
        let returned =
            match tenant.and_then(|column| Some((column, self.fixed.get(&column.attnum)?.as_ref()?))) {
                Some((column, value)) => {
                    format!(
                        "CASE WHEN {} = {}::{} THEN {whole} END",
                        ident(&column.name),
                        literal(value),
                        column.type_name
                    )
                }
                None => whole,
            };
        format!("INSERT INTO {name} {body} RETURNING {returned}")
    }

    /// The columns that are given a value, and the value as SQL.
    fn cells(&self, shape: Shape, choice: &BTreeMap<i16, usize>) -> Vec<(&Column, String)> {
        let unique = Unique::new();
        let mut chosen: BTreeMap<i16, String> = BTreeMap::new();
        let mut cells = Vec::new();
        for column in self.node.columns.iter().filter(|column| !column.is_generated) {
            let cast = |value: &str| format!("{}::{}", literal(value), column.type_name);
            let attnum = column.attnum;
            if let Some(value) = self.fixed.get(&attnum) {
                // A copy keeps its own optional references to shared tables; the tenant's come from the plan.
                cells.push((column, value.as_deref().map_or("NULL".into(), cast)));
                chosen.extend(value.clone().map(|value| (attnum, value)));
                continue;
            }
            let is_own = self.own.iter().any(|(from, _)| *from == attnum);
            let is_key = self.unique_columns.contains(&attnum);
            let made_here = column.is_identity || column.is_serial;
            let wanted = match shape {
                Shape::Copy => is_key || made_here || is_own,
                Shape::Least => {
                    (column.not_null && !column.has_default)
                        || made_here
                        || (is_key && column.not_null)
                        || self.forced.contains(&attnum)
                }
                Shape::Existing | Shape::Full => true,
            };
            if wanted || is_own {
                let mut values = self.values(column, &unique);
                if values.is_empty() {
                    continue;
                }
                let at = choice.get(&attnum).copied().unwrap_or(0) % values.len();
                let value = values.swap_remove(at);
                cells.push((column, value.as_deref().map_or("NULL".into(), cast)));
                chosen.extend(value.map(|value| (attnum, value)));
            } else if shape == Shape::Copy {
                cells.push((column, format!("s.{}", ident(&column.name))));
            }
        }
        // What references its own row takes the value over.
        for (from, to) in self.own.iter().filter(|(from, _)| !self.fixed.contains_key(from)) {
            let cell = cells.iter_mut().find(|(column, _)| column.attnum == *from);
            if let (Some(value), Some(cell)) = (chosen.get(to), cell) {
                cell.1 = format!("{}::{}", literal(value), cell.0.type_name);
            }
        }
        cells
    }
}
