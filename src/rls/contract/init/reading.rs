//! What a policy compares with what: columns of its table with the context, and columns of tables that it asks who the
//! user is.

use std::collections::BTreeMap;

use sqlx::postgres::types::Oid;

use super::facts::{Facts, Policy, Table};
use super::syntax::Node;

/// A setting of the session that is read, or a place in the JSON that it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    /// Empty where the text does not tell which setting holds the JSON.
    pub(super) setting: String,
    pub(super) path: Vec<String>,
    /// Whether a list is expected.
    pub(super) list: bool,
    json: bool,
}

impl Source {
    /// What it is called: the last part of the name, or of the place in the JSON.
    pub(super) fn name(&self) -> &str {
        let setting = self.setting.rsplit('.').next().unwrap_or_default();
        self.path.last().map_or(setting, String::as_str)
    }

    /// How people speak of it.
    pub(super) fn describe(&self) -> String {
        if self.path.is_empty() {
            format!("the setting {}", self.setting)
        } else {
            format!("the claim {} of {}", self.path.join("."), self.setting)
        }
    }
}

/// How a policy narrows a column of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) column: String,
    /// What it is compared with itself; empty where a table or a function stands between.
    pub(super) direct: Vec<Source>,
    /// The tables that stand between, each with the column that is compared with the context.
    pub(super) through: Vec<(Oid, String)>,
    /// The tables whose columns it is joined with.
    pub(super) partners: Vec<Oid>,
    pub(super) function: Option<String>,
}

/// A table that is asked who the user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lookup {
    pub(super) table: Oid,
    pub(super) key: String,
    pub(super) sources: Vec<Source>,
    /// Columns that the look-up gives, or that it compares with other columns.
    pub(super) gives: Vec<String>,
    /// Columns that must hold one of these texts.
    pub(super) texts: BTreeMap<String, Vec<String>>,
}

/// What a policy says.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Whether it opens the table; otherwise it narrows what others open.
    pub(super) permissive: bool,
    pub(super) candidates: Vec<Candidate>,
    pub(super) lookups: Vec<Lookup>,
    /// Every source anywhere in the policy or the functions behind it.
    pub(super) sources: Vec<Source>,
    /// What a source must be, and whether a way around it exists.
    pub(super) texts: Vec<(Source, String, bool)>,
}

/// Reads a policy of a table.
pub(super) fn read(facts: &Facts, table: &Table, policy: &Policy) -> Reading {
    let found = Reading { permissive: policy.permissive, ..Reading::default() };
    let mut reader = Reader { facts, table, found };
    for text in policy.qual.iter().chain(&policy.checked) {
        let nodes = facts.library.expression(text);
        let deep = reader.deep(&nodes);
        reader.found.sources.extend(deep);
        reader.walk(&nodes, &Place { alias: &[], select: &[], body: false, optional: false });
    }
    reader.found
}

/// A table in a FROM, with the name that columns are written with.
type From<'f> = (String, &'f Table);

/// Where in a policy something stands.
#[derive(Clone, Copy)]
struct Place<'p, 'f> {
    /// The tables of the innermost SELECT.
    alias: &'p [From<'f>],
    select: &'p [Node],
    /// Whether it is in a function.
    body: bool,
    /// Whether another branch may do without it.
    optional: bool,
}

struct Reader<'f> {
    facts: &'f Facts,
    table: &'f Table,
    found: Reading,
}

const SEPARATORS: [&str; 34] = [
    "AND", "OR", "NOT", "WHERE", "FROM", "SELECT", "ON", "WHEN", "THEN", "ELSE", "ELSIF", "CASE", "END",
    "RETURN", "IF", "USING", "LIMIT", "ORDER", "GROUP", "HAVING", "UNION", "JOIN", "BEGIN", "DECLARE",
    "QUERY", "PERFORM", "INTO", "BY", "LEFT", "INNER", "EXISTS", "ATOMIC", "DISTINCT", ",",
];

fn separates(node: &Node) -> bool {
    matches!(node, Node::Sign(sign) if SEPARATORS.contains(&sign.as_str()))
}

/// A clause without its casts and the parentheses around it.
fn bare(nodes: &[Node]) -> &[Node] {
    let end = nodes.iter().position(|node| node.is("::") || node.is("AS")).unwrap_or(nodes.len());
    match &nodes[..end] {
        [Node::Group(inner)] => bare(inner),
        [Node::Sign(select), inner @ ..]
            if select == "SELECT" && !inner.iter().any(|node| node.is("FROM")) =>
        {
            bare(inner)
        }
        other => other,
    }
}

fn name(nodes: &[Node]) -> Option<&[String]> {
    match bare(nodes) {
        [Node::Name(path)] => Some(path),
        _ => None,
    }
}

/// The texts of a clause that is nothing but texts.
fn texts(nodes: &[Node]) -> Vec<String> {
    match bare(nodes) {
        [Node::Text(text)] => vec![text.clone()],
        [Node::Call { name, arguments, .. }] if name == &["any"] => texts(arguments),
        [Node::Name(array), Node::Sign(sign), Node::Group(inner)] if array == &["array"] && sign == "[]" => {
            inner.split(|node| node.is(",")).flat_map(texts).collect()
        }
        list if list.len() > 1 && list.iter().any(|node| node.is(",")) => {
            list.split(|node| node.is(",")).flat_map(texts).collect()
        }
        _ => Vec::new(),
    }
}

/// What a SELECT gives.
fn output(nodes: &[Node]) -> impl Iterator<Item = &[Node]> {
    let start = nodes.iter().position(|node| node.is("SELECT")).map_or(0, |at| at + 1);
    let rest = nodes.get(start..).unwrap_or_default();
    let end = rest.iter().position(|node| node.is("FROM") || node.is("INTO")).unwrap_or(rest.len());
    rest[..end].split(|node| node.is(",") || node.is("DISTINCT"))
}

impl<'f> Reader<'f> {
    /// The tables of a SELECT.
    fn from(&self, nodes: &[Node]) -> Vec<From<'f>> {
        let mut found = Vec::new();
        if nodes.iter().any(|node| node.is("SELECT") || node.is("FROM")) {
            self.tables_in(nodes, false, &mut found);
        }
        found
    }

    fn tables_in(&self, nodes: &[Node], mut inside: bool, found: &mut Vec<From<'f>>) {
        for (at, node) in nodes.iter().enumerate() {
            let comes =
                at == 0 || nodes[at - 1].is("FROM") || nodes[at - 1].is("JOIN") || nodes[at - 1].is(",");
            match node {
                Node::Sign(sign) if ["FROM", "JOIN"].contains(&sign.as_str()) => inside = true,
                Node::Sign(sign) if ["WHERE", "ON", "SELECT", "RETURN"].contains(&sign.as_str()) => {
                    inside = false
                }
                Node::Group(inner) if inside && !inner.iter().any(|node| node.is("SELECT")) => {
                    self.tables_in(inner, true, found);
                }
                Node::Name(path) if inside && comes => {
                    let Some(table) = self.facts.named(path) else { continue };
                    let rest = nodes.get(at + 1..).unwrap_or_default();
                    let alias = match rest {
                        [Node::Name(alias), ..] => alias.last(),
                        [sign, Node::Name(alias), ..] if sign.is("AS") => alias.last(),
                        _ => path.last(),
                    };
                    found.push((alias.cloned().unwrap_or_default(), table));
                }
                _ => {}
            }
        }
    }

    /// What a clause reads by itself, without what it looks up in tables.
    fn direct(&self, nodes: &[Node]) -> Vec<Source> {
        let mut found = Vec::new();
        self.collect(nodes, false, &mut found);
        settle(found)
    }

    /// What a clause reads in any way.
    fn deep(&self, nodes: &[Node]) -> Vec<Source> {
        let mut found = Vec::new();
        self.collect(nodes, true, &mut found);
        settle(found)
    }

    fn collect(&self, nodes: &[Node], deep: bool, into: &mut Vec<Source>) {
        if !deep && !self.from(nodes).is_empty() {
            return;
        }
        let mut at = 0;
        while let Some(node) = nodes.get(at) {
            at += 1;
            let mut inner = Vec::new();
            match node {
                Node::Group(group) => self.collect(group, deep, &mut inner),
                Node::Call { name, arguments, body } => self.call(name, arguments, body, deep, &mut inner),
                Node::Name(path) if path.len() == 1 && !path[0].starts_with(char::is_numeric) => {}
                _ => continue,
            }
            // The places in JSON that follow, with casts in between.
            let mut path: Vec<String> = Vec::new();
            let mut json = false;
            while let Some(Node::Sign(sign)) = nodes.get(at) {
                match (sign.as_str(), nodes.get(at + 1)) {
                    ("->" | "->>", Some(Node::Text(key))) => path.push(key.clone()),
                    ("#>" | "#>>", Some(Node::Text(keys))) => {
                        path.extend(
                            keys.trim_matches(['{', '}']).split(',').map(|key| key.trim().to_owned()),
                        );
                    }
                    ("::", Some(Node::Name(kind))) => {
                        json |= kind.last().is_some_and(|kind| kind.starts_with("json"))
                    }
                    ("[]", Some(Node::Group(_))) => {}
                    ("?" | "@>", _) => {
                        for source in &mut inner {
                            source.list = true;
                        }
                        break;
                    }
                    _ => break,
                }
                at += 2;
            }
            let column = matches!(node, Node::Name(path) if self.table.column(&path[0]).is_some());
            if inner.is_empty() && !path.is_empty() && !column {
                inner.push(Source { setting: String::new(), path: Vec::new(), list: false, json: true });
            }
            for source in &mut inner {
                source.path.extend(path.iter().cloned());
                source.json |= json;
            }
            into.append(&mut inner);
        }
    }

    fn call(
        &self,
        name: &[String],
        arguments: &[Node],
        body: &[Vec<Node>],
        deep: bool,
        into: &mut Vec<Source>,
    ) {
        let last = name.last().map_or("", String::as_str);
        if let ("current_setting", Some(Node::Text(setting))) = (last, arguments.first()) {
            // Whoever reads a setting of PostgreSQL itself asks for no context.
            if setting.contains('.') {
                let setting = setting.to_lowercase();
                into.push(Source { setting, path: Vec::new(), list: false, json: false });
            }
            return;
        }
        let mut inner = Vec::new();
        self.collect(arguments, deep, &mut inner);
        if last.ends_with("_extract_path_text") || last.ends_with("_extract_path") {
            let keys = arguments.split(|node| node.is(",")).skip(1).flat_map(texts);
            let keys: Vec<String> = keys.collect();
            for source in &mut inner {
                source.path.extend(keys.iter().cloned());
            }
        }
        for source in &mut inner {
            source.list |= last.starts_with("json") && last.contains("_array_elements");
        }
        into.append(&mut inner);
        for statement in body {
            self.collect(statement, deep, into);
        }
    }

    fn walk(&mut self, nodes: &[Node], place: &Place<'_, 'f>) {
        let optional = place.optional || nodes.iter().any(|node| node.is("OR"));
        let from = self.from(nodes);
        let looked_up = !from.is_empty();
        let mut place = Place { optional, ..*place };
        if looked_up {
            place = Place { alias: &from, select: nodes, ..place };
            self.look_up(nodes, &place);
        }
        for clause in nodes.split(separates) {
            let sign = |node: &Node| ["=", "IN", "?", "@>", "<@"].iter().any(|sign| node.is(sign));
            if let Some(at) = clause.iter().position(sign) {
                let (left, right) = (&clause[..at], &clause[at + 1..]);
                self.compare(left, right, &place);
                self.compare(right, left, &place);
            }
        }
        for node in nodes {
            match node {
                Node::Group(inner) => self.walk(inner, &place),
                Node::Call { name, arguments, body } => {
                    if !place.body && !body.is_empty() {
                        self.passed(name, arguments, body, &place);
                    }
                    self.walk(arguments, &place);
                    for statement in body {
                        self.walk(statement, &Place { body: true, alias: &[], select: &[], ..place });
                    }
                }
                _ => {}
            }
        }
    }

    /// The column of the policy's own table that a name means.
    fn own(&self, nodes: &[Node], place: &Place<'_, 'f>) -> Option<String> {
        let path = name(nodes)?;
        let (column, before) = path.split_last()?;
        let of_this = match before {
            [] => place.alias.is_empty(),
            [.., of] => *of == self.table.name && !place.alias.iter().any(|(alias, _)| alias == of),
        };
        (!place.body && of_this && self.table.column(column).is_some()).then(|| column.clone())
    }

    /// The column of a table of the innermost SELECT that a name means.
    fn other(nodes: &[Node], place: &Place<'_, 'f>) -> Option<(&'f Table, String)> {
        let (column, before) = name(nodes)?.split_last()?;
        let mut from = place.alias.iter().filter(|(alias, _)| before.last().is_none_or(|of| of == alias));
        let table = from.find(|(_, table)| table.column(column).is_some())?.1;
        Some((table, column.clone()))
    }

    fn compare(&mut self, left: &[Node], right: &[Node], place: &Place<'_, 'f>) {
        let direct = self.direct(right);
        let Some(column) = self.own(left, place) else {
            if let ([source], [text]) = (self.direct(left).as_slice(), texts(right).as_slice()) {
                self.found.texts.push((source.clone(), text.clone(), place.optional));
            }
            return;
        };
        let (through, partners) = if !direct.is_empty() {
            (Vec::new(), Vec::new())
        } else if !self.deep(right).is_empty() {
            (self.keys(right), self.outputs(right))
        } else if let (Some((partner, _)), false) =
            (Self::other(right, place), self.deep(place.select).is_empty())
        {
            (self.keys(place.select), vec![partner.oid])
        } else {
            return;
        };
        self.found.candidates.push(Candidate { column, direct, through, partners, function: None });
    }

    /// The columns of tables that a clause compares with the context, at any depth.
    fn keys(&self, nodes: &[Node]) -> Vec<(Oid, String)> {
        let mut reader = Reader { facts: self.facts, table: self.table, found: Reading::default() };
        reader.walk(nodes, &Place { alias: &[], select: &[], body: true, optional: false });
        reader.found.lookups.into_iter().map(|lookup| (lookup.table, lookup.key)).collect()
    }

    /// The tables that the outermost SELECT of a clause gives columns of.
    fn outputs(&self, nodes: &[Node]) -> Vec<Oid> {
        let from = self.from(nodes);
        if from.is_empty() {
            let inner = nodes.iter().map(|node| match node {
                Node::Group(inner) => self.outputs(inner),
                Node::Call { arguments, .. } => self.outputs(arguments),
                _ => Vec::new(),
            });
            return inner.flatten().collect();
        }
        let place = Place { alias: &from, select: nodes, body: true, optional: false };
        output(nodes).filter_map(|item| Self::other(item, &place)).map(|(table, _)| table.oid).collect()
    }

    /// A function that gets a column of the table and reads the context.
    fn passed(&mut self, called: &[String], arguments: &[Node], body: &[Vec<Node>], place: &Place<'_, 'f>) {
        if body.iter().all(|statement| self.deep(statement).is_empty()) {
            return;
        }
        let through: Vec<_> = body.iter().flat_map(|statement| self.keys(statement)).collect();
        for argument in arguments.split(|node| node.is(",")) {
            if let Some(column) = self.own(argument, place) {
                self.found.candidates.push(Candidate {
                    column,
                    direct: Vec::new(),
                    through: through.clone(),
                    partners: Vec::new(),
                    function: Some(called.join(".")),
                });
            }
        }
    }

    /// A SELECT that finds rows by the context.
    fn look_up(&mut self, nodes: &[Node], place: &Place<'_, 'f>) {
        let mut keys: Vec<(Oid, String, Vec<Source>)> = Vec::new();
        let mut gives: Vec<(Oid, String)> = Vec::new();
        let mut wanted: Vec<(Oid, String, Vec<String>)> = Vec::new();
        for item in output(nodes) {
            gives.extend(Self::other(item, place).map(|(table, column)| (table.oid, column)));
        }
        self.conditions(nodes, &mut |reader, left, right| {
            let Some((table, column)) = Self::other(left, place) else { return };
            let (direct, expected) = (reader.direct(right), texts(right));
            if !direct.is_empty() {
                keys.push((table.oid, column, direct));
            } else if !expected.is_empty() {
                wanted.push((table.oid, column, expected));
            } else if name(right).is_some() {
                gives.push((table.oid, column));
            }
        });
        for (table, key, sources) in keys {
            let of = |oid: &Oid| *oid == table;
            let columns = gives.iter().filter(|(oid, _)| of(oid)).map(|(_, column)| column.clone());
            let texts = wanted.iter().filter(|(oid, ..)| of(oid)).map(|(_, c, t)| (c.clone(), t.clone()));
            self.found.lookups.push(Lookup {
                table,
                key,
                sources,
                gives: columns.collect(),
                texts: texts.collect(),
            });
        }
    }

    /// The comparisons of one SELECT, without those of a SELECT in it.
    fn conditions(&self, nodes: &[Node], each: &mut impl FnMut(&Self, &[Node], &[Node])) {
        for clause in nodes.split(separates) {
            if let Some(at) = clause.iter().position(|node| node.is("=") || node.is("IN")) {
                each(self, &clause[..at], &clause[at + 1..]);
                each(self, &clause[at + 1..], &clause[..at]);
            }
        }
        for node in nodes {
            if let Node::Group(inner) = node
                && self.from(inner).is_empty()
            {
                self.conditions(inner, each);
            }
        }
    }
}

/// Gives places in JSON to the setting that holds it, where the text has them apart: in a variable, for one.
fn settle(found: Vec<Source>) -> Vec<Source> {
    let (loose, mut known): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|source| source.setting.is_empty());
    let holds = |source: &Source| {
        source.path.is_empty()
            && (source.json || source.setting.contains("jwt") || source.setting.contains("claims"))
    };
    for place in loose {
        let holders: Vec<String> = known.iter().filter(|s| holds(s)).map(|s| s.setting.clone()).collect();
        known.extend(holders.into_iter().map(|setting| Source { setting, ..place.clone() }));
    }
    let mut settled: Vec<Source> = Vec::new();
    for source in &known {
        let whole = source.path.is_empty()
            && known.iter().any(|other| other.setting == source.setting && !other.path.is_empty());
        if !whole && !settled.contains(source) {
            settled.push(source.clone());
        }
    }
    settled
}
