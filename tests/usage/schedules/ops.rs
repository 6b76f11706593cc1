//! What sessions do, and in which order: drawn at random.

use std::ops::Range;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// What the operations report.
pub(super) const METRICS: [&str; 2] = ["events", "storage"];
/// How many sessions there are at most.
pub(super) const MOST: usize = 6;

/// What is written to the metered table, for a tenant ($1) and so many rows ($2).
const WRITES: [&str; 3] = [
    "INSERT INTO public.people (tenant_id) SELECT $1 FROM generate_series(1, $2)",
    "DELETE FROM public.people WHERE id IN (SELECT id FROM public.people WHERE tenant_id = $1 ORDER BY id LIMIT $2)",
    "UPDATE public.people SET tenant_id = $1
      WHERE id IN (SELECT id FROM public.people WHERE tenant_id <> $1 ORDER BY id LIMIT $2)",
];

/// Usage to report: of which of two tenants, and of which metric.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) tenant: usize,
    pub(super) metric: usize,
    pub(super) amount: i64,
    /// What its key begins with.
    pub(super) key: Option<String>,
}

/// What a session does; outside a transaction each is one of its own.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// At REPEATABLE READ, where that is wanted.
    Begin(bool),
    Track(Entry),
    Batch(Vec<Entry>),
    /// For so long.
    Reserve(Entry, &'static str),
    /// Commits, if that is wanted, so much or all of one of the newest reservations, whoever made it, or else releases it.
    Close(usize, Option<i64>, bool),
    /// One of [`WRITES`], for a tenant and so many rows.
    Write(&'static str, usize, i64),
    Commit,
    Rollback,
    /// The client goes away, and comes back with another connection.
    Leave,
    /// The server ends the session, whatever it does or waits for.
    Kill,
}

/// Mostly the first of the two, so that many meet.
fn tenant() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => Just(1)]
}

/// With a key of a kind: none, one of the metric, one for both metrics. There are few, each for one of the first two amounts,
/// so that many come twice at the same time.
fn entry(metric: usize, amounts: Vec<i64>, keys: Range<u8>) -> impl Strategy<Value = Entry> {
    (tenant(), keys, 0..amounts.len()).prop_map(move |(tenant, kind, n)| {
        let (amount, key) = match kind {
            0 => (amounts[n], None),
            1 => (amounts[n % 2], Some(format!("{}-{}", METRICS[metric], n % 2))),
            _ => (amounts[n % 2], Some(format!("any-{}", n % 2))),
        };
        Entry { tenant, metric, amount, key }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let reported =
        || prop_oneof![entry(0, vec![1, 2, 3, -1, -2], 0..3), entry(1, vec![2, -1, 1, 4, -2, -3], 0..3)];
    // What is held briefly goes to whoever needs it in a later transaction.
    let held = (entry(0, vec![1, 2, 4], 0..3), prop::sample::select(vec!["1 microsecond", "1 hour"]));
    let closed = (0..3_usize, prop::sample::select(vec![None, Some(1)]), any::<bool>());
    let write = prop::sample::select(vec![
        WRITES[0], WRITES[0], WRITES[0], WRITES[1], WRITES[1], WRITES[1], WRITES[2],
    ]);
    prop_oneof![
        14 => prop::bool::weighted(0.2).prop_map(Op::Begin),
        14 => reported().prop_map(Op::Track),
        6 => prop::collection::vec(reported(), 1..6).prop_map(Op::Batch),
        8 => held.prop_map(|(entry, ttl)| Op::Reserve(entry, ttl)),
        8 => closed.prop_map(|(which, amount, commit)| Op::Close(which, amount, commit)),
        12 => (write, tenant(), 1..4_i64).prop_map(|(sql, tenant, rows)| Op::Write(sql, tenant, rows)),
        6 => Just(Op::Commit),
        2 => Just(Op::Rollback),
        1 => Just(Op::Leave),
        1 => Just(Op::Kill),
    ]
}

/// How many sessions there are, and what one of them does next: which is a number to choose it by.
pub(super) fn schedule(seed: u64) -> (usize, Vec<(usize, Op)>) {
    let steps = prop::collection::vec((0..60_usize, op()), 20..50);
    let config = Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    (2..=MOST, steps).new_tree(&mut TestRunner::new(config)).unwrap().current()
}
