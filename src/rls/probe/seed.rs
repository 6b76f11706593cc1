//! Makes a row in every table for each of two synthetic tenants, through the foreign keys.
//!
//! A row is first copied from one that is there, then put together from candidate values; what a constraint refuses is
//! varied in the columns that the constraint names. What cannot be made is reported in the database's own words.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;

use crate::Result;
use crate::db::quote::{ident, literal};
use crate::rls::contract::Acting;
use crate::rls::probe::row::{Plan, Values};
use crate::rls::probe::runner::{self, Item, Outcome};
use crate::rls::probe::schema::{Column, Node};
use crate::rls::probe::values::tenant_value;

/// How often a row is tried anew, each time with several variants.
const ROUNDS: usize = 14;

/// Who makes the rows: a role, and whether the tenant's context is set.
#[derive(Debug, Clone)]
pub(crate) struct Hand {
    pub(crate) role: Maker,
    pub(crate) in_context: bool,
}

/// The role that makes a row.
#[derive(Debug, Clone)]
pub(crate) enum Maker {
    /// The connection's own.
    Home,
    /// This one.
    Named(String),
    /// The owner of the table.
    Owner,
}

/// The rows that were made.
#[derive(Debug, Default)]
pub(crate) struct Canaries {
    /// Rows of tenants A and B, by table.
    pub(crate) rows: BTreeMap<u32, [Values; 2]>,
    /// Rows that could be added for A and B: made once and rolled back.
    pub(crate) spares: BTreeMap<u32, [Option<Values>; 2]>,
    /// Why a table has none, as the first who tried was told.
    pub(crate) reasons: BTreeMap<u32, String>,
    /// Tables in the order in which they were filled.
    pub(crate) order: Vec<u32>,
    /// Why a table has none, as the one who tries now was told.
    failed: BTreeMap<u32, String>,
    shared: BTreeMap<u32, Values>,
}

impl Canaries {
    fn has(&self, oid: u32) -> bool {
        self.rows.contains_key(&oid) || self.shared.contains_key(&oid)
    }

    /// The rows that were made in a table: those of A and B, or the one that tenants share.
    pub(crate) fn made(&self, oid: u32) -> impl Iterator<Item = &Values> {
        self.rows.get(&oid).into_iter().flatten().chain(self.shared.get(&oid))
    }

    fn row(&self, oid: u32, tenant: usize) -> Option<&Values> {
        self.rows.get(&oid).map(|rows| &rows[tenant]).or_else(|| self.shared.get(&oid))
    }
}

/// Fills tables.
#[derive(Debug)]
pub(crate) struct Seeder<'a> {
    pub(crate) nodes: &'a BTreeMap<u32, Node>,
    /// Ids of tenants A and B.
    pub(crate) tenants: [uuid::Uuid; 2],
    pub(crate) acting: &'a Acting,
    /// By table the names of keys that the catalogue suspects of telling what other tenants have.
    pub(crate) suspected: &'a BTreeMap<u32, Vec<String>>,
    pub(crate) canaries: Canaries,
}

impl Seeder<'_> {
    /// The key of A or B, as the column holds it.
    pub(crate) fn key(&self, column: &Column, which: usize) -> String {
        self.acting.key(which).map_or_else(|| tenant_value(column, &self.tenants[which]), String::from)
    }

    /// Fills every table that is not filled yet, by the first of the hands that can.
    pub(crate) async fn fill(&mut self, connection: &mut PgConnection, hands: &[Hand]) -> Result<()> {
        for hand in hands {
            self.canaries.failed.clear();
            let mut open: BTreeSet<u32> =
                self.nodes.keys().copied().filter(|oid| !self.canaries.has(*oid)).collect();
            while !open.is_empty() {
                let layer = self.next_layer(&open);
                if layer.is_empty() {
                    for oid in &open {
                        self.fail(*oid, "its foreign keys form a circle that no first row can enter");
                    }
                    break;
                }
                for oid in &layer {
                    open.remove(oid);
                }
                self.fill_layer(connection, &layer, hand).await?;
            }
        }
        Ok(())
    }

    fn fail(&mut self, oid: u32, reason: &str) {
        self.canaries.failed.entry(oid).or_insert_with(|| reason.to_string());
        self.canaries.reasons.entry(oid).or_insert_with(|| reason.to_string());
    }

    /// Tables whose parents are filled. Those that they need first; then those that they could do without.
    fn next_layer(&mut self, open: &BTreeSet<u32>) -> Vec<u32> {
        let ready = |oid: &u32, counts: &dyn Fn(&Node, &crate::rls::probe::schema::Constraint) -> bool| {
            self.nodes.get(oid).is_some_and(|node| {
                node.references().all(|key| {
                    key.referenced == node.oid || !open.contains(&key.referenced.0) || !counts(node, key)
                })
            })
        };
        let required = |node: &Node, key: &crate::rls::probe::schema::Constraint| {
            key.columns.iter().all(|column| node.column(*column).is_some_and(|column| column.not_null))
        };
        for pass in 0..3 {
            let layer: Vec<u32> = open
                .iter()
                .copied()
                .filter(|oid| {
                    ready(oid, &|node, key| match pass {
                        0 => true,
                        1 => required(node, key),
                        _ => required(node, key) && !key.is_deferrable,
                    })
                })
                .collect();
            // Of those that must go without a parent, one at a time: the next may then have its parent after all.
            if !layer.is_empty() {
                return if pass == 0 { layer } else { layer.into_iter().take(1).collect() };
            }
        }
        Vec::new()
    }

    async fn fill_layer(&mut self, connection: &mut PgConnection, layer: &[u32], hand: &Hand) -> Result<()> {
        let mut fillable = Vec::new();
        for oid in layer {
            let Some(node) = self.nodes.get(oid) else { continue };
            if node.is_foreign {
                self.fail(*oid, "a foreign table: row-level security does not exist on it");
                continue;
            }
            let missing = node.references().find(|key| {
                let required =
                    key.columns.iter().all(|column| node.column(*column).is_some_and(|c| c.not_null));
                required && self.canaries.failed.contains_key(&key.referenced.0)
            });
            if let Some(key) = missing {
                let parent = self.nodes.get(&key.referenced.0).map_or("?", |parent| parent.name.as_str());
                let reason = self.canaries.failed.get(&key.referenced.0).cloned().unwrap_or_default();
                self.fail(*oid, &format!("it references {parent}, which could not be filled: {reason}"));
                continue;
            }
            fillable.push(*oid);
        }
        let mut first: Vec<Plan<'_>> = Vec::new();
        for oid in &fillable {
            if let Some(node) = self.nodes.get(oid) {
                first.push(self.plan(node, 0));
            }
        }
        let made = self.make(connection, first, hand, true, ROUNDS).await?;
        let mut second = Vec::new();
        for (plan, result) in made {
            let oid = plan.node.oid.0;
            match result {
                Err(reason) => self.fail(oid, &reason),
                Ok(values) if plan.node.tenant.is_none() => {
                    self.canaries.shared.insert(oid, values);
                    self.canaries.order.push(oid);
                }
                Ok(values) => {
                    let next = self.plan(plan.node, 1).learn(&plan);
                    second.push((next, values));
                }
            }
        }
        let (plans, firsts): (Vec<_>, Vec<_>) = second.into_iter().unzip();
        let made = self.make(connection, plans, hand, true, ROUNDS).await?;
        let mut spare = [Vec::new(), Vec::new()];
        for ((plan, result), first) in made.into_iter().zip(firsts) {
            let oid = plan.node.oid.0;
            match result {
                Err(reason) => self.fail(oid, &reason),
                Ok(values) => {
                    self.canaries.rows.insert(oid, [first, values]);
                    self.canaries.order.push(oid);
                    for (tenant, plans) in spare.iter_mut().enumerate() {
                        plans.push(self.plan(plan.node, tenant).learn(&plan));
                    }
                }
            }
        }
        for (tenant, plans) in spare.into_iter().enumerate() {
            for (plan, result) in self.make(connection, plans, hand, false, 4).await? {
                self.canaries.spares.entry(plan.node.oid.0).or_default()[tenant] = result.ok();
            }
        }
        Ok(())
    }

    /// What is known of a row before a value is chosen: the tenant, and the keys of its parents.
    fn plan<'n>(&self, node: &'n Node, tenant: usize) -> Plan<'n>
    where
        Self: 'n,
    {
        let mut fixed: BTreeMap<i16, Option<String>> = BTreeMap::new();
        if let Some(column) = node.tenant.and_then(|attnum| node.column(attnum)) {
            fixed.insert(column.attnum, Some(self.key(column, tenant)));
        }
        let mut own = Vec::new();
        for key in node.references() {
            let pairs = key.columns.iter().copied().zip(key.referenced_columns.iter().copied());
            if key.referenced == node.oid {
                if key.columns.iter().all(|column| node.column(*column).is_some_and(|c| c.not_null)) {
                    own.extend(pairs);
                }
                continue;
            }
            let parent = self.nodes.get(&key.referenced.0);
            let row = self.canaries.row(key.referenced.0, tenant);
            for (column, target) in pairs {
                if fixed.contains_key(&column) {
                    continue;
                }
                let value =
                    row.zip(parent).and_then(|(row, parent)| row.get(parent.position(target)?)?.clone());
                // Without a parent: NULL where it may be; else whatever a deferred key takes.
                if value.is_some() || node.column(column).is_some_and(|column| !column.not_null) {
                    fixed.insert(column, value);
                }
            }
        }
        let suspected = self.suspected.get(&node.oid.0).map(Vec::as_slice).unwrap_or_default();
        let keys = node.constraints.iter().filter(|key| suspected.contains(&key.name));
        // What a key is to tell must be there.
        let told = keys.flat_map(|key| key.columns.iter().copied()).collect();
        Plan::new(node, tenant, fixed, own).force(told)
    }

    /// Makes one row for each plan, all plans together in each round.
    async fn make<'n>(
        &self,
        connection: &mut PgConnection,
        plans: Vec<Plan<'n>>,
        hand: &Hand,
        keep: bool,
        rounds: usize,
    ) -> Result<Vec<(Plan<'n>, Result<Values, String>)>> {
        let mut results: Vec<Option<Result<Values, String>>> = plans.iter().map(|_| None).collect();
        let mut plans = plans;
        for round in 0..rounds {
            let pending: Vec<usize> = (0..plans.len()).filter(|at| results[*at].is_none()).collect();
            if pending.is_empty() {
                break;
            }
            let mut items = Vec::with_capacity(pending.len());
            for at in &pending {
                items.push(self.item(&mut plans[*at], hand, keep, round));
            }
            let outcomes = runner::run(connection, &items).await?;
            for (at, outcome) in pending.into_iter().zip(outcomes) {
                results[at] = settle(&mut plans[at], &outcome, round + 1 == rounds);
            }
        }
        let results =
            results.into_iter().map(|result| result.unwrap_or_else(|| Err("no row was made".into())));
        Ok(plans.into_iter().zip(results).collect())
    }

    fn item(&self, plan: &mut Plan<'_>, hand: &Hand, keep: bool, round: usize) -> Item {
        let mut settings = BTreeMap::new();
        if let (true, Some(column)) =
            (hand.in_context, plan.node.tenant.and_then(|attnum| plan.node.column(attnum)))
        {
            settings = self.acting.tenant(&self.key(column, plan.tenant), plan.tenant);
        }
        let role = match &hand.role {
            Maker::Home => None,
            Maker::Named(name) => Some(name.clone()),
            Maker::Owner => Some(plan.node.owner.clone()),
        };
        Item { attempts: plan.statements(round), returns: true, keep, role, settings, ..Item::default() }
    }

    /// Statements that take away the canaries of these tenants which reference a table's, so that its own can be deleted.
    pub(crate) fn clear_dependents(&self, oid: u32, tenants: &[usize]) -> Vec<String> {
        let mut found = BTreeSet::from([oid]);
        let mut statements = Vec::new();
        for at in 0..self.canaries.order.len() {
            // Filled in order: whoever references a table comes after it, save in circles.
            let child = self.canaries.order[at];
            let Some(node) = self.nodes.get(&child) else { continue };
            if child != oid && node.references().any(|key| found.contains(&key.referenced.0)) {
                found.insert(child);
                if let Some(statement) = self.clear(node, tenants) {
                    statements.push(statement);
                }
            }
        }
        statements.reverse();
        statements
    }

    fn clear(&self, node: &Node, tenants: &[usize]) -> Option<String> {
        let column = node.column(node.tenant?)?;
        let values: Vec<String> = tenants.iter().map(|which| literal(&self.key(column, *which))).collect();
        Some(format!("DELETE FROM {} WHERE {} IN ({})", node.name, ident(&column.name), values.join(", ")))
    }
}

/// What a round brought: a row, an error to give up on, or another round.
fn settle(plan: &mut Plan<'_>, outcome: &Outcome, last: bool) -> Option<Result<Values, String>> {
    if outcome.attempt.is_some() {
        plan.worked(outcome.attempt.unwrap_or_default());
        let values = outcome.answer.as_deref().and_then(|answer| serde_json::from_str::<Values>(answer).ok());
        return Some(
            values.ok_or_else(|| "a trigger gave the row to another tenant, or took it away".into()),
        );
    }
    let hopeless = plan.learn_from(outcome);
    if hopeless || last {
        return Some(Err(plan.reason(outcome)));
    }
    None
}
