//! One transaction of attacks: rows for two tenants, every statement against them, and a rollback.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use crate::Result;
use crate::db::quote::{literal, trusted};
use crate::rls::probe::attack::Target;
use crate::rls::probe::doors::{Doors, Function, House};
use crate::rls::probe::judge::{Tried, judge};
use crate::rls::probe::openers::{Openers, openers};
use crate::rls::probe::pgtap;
use crate::rls::probe::row::Values;
use crate::rls::probe::runner::{self, Item};
use crate::rls::probe::schema::{Node, Policies, Privileges};
use crate::rls::probe::seed::{Canaries, Hand, Maker, Seeder};
use crate::rls::probe::values::tenant_value;
use crate::rls::probe::views::View;
use crate::rls::probe::wire::{self, Line};
use crate::rls::probe::{Leak, Progress, Results, Settings};
use crate::rls::report::{NotProven, Severity, TableVerdict, Verdict};
use crate::rls::scope::{Role, Scope, Table};
use crate::rls::verify::CONNECT_TIMEOUT;

/// What all batches share.
pub(crate) struct Shared<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) settings: &'a Settings<'a>,
    /// Whether the connection itself is exempt from the policies.
    pub(crate) privileged: bool,
    /// The application role, and every role that it can become.
    pub(crate) attackers: Vec<&'a Role>,
    pub(crate) privileges: BTreeMap<(u32, u32), Privileges>,
    pub(crate) policies: BTreeMap<u32, Policies>,
    pub(crate) views: Vec<View>,
    pub(crate) functions: Vec<Function>,
    /// The tables in scope, by oid.
    pub(crate) tables: BTreeMap<u32, &'a Table>,
    /// For each statement of the contract's preparation the table that it adds rows to.
    pub(crate) prepared: Vec<Option<u32>>,
}

/// Tables that are attacked in one transaction.
pub(crate) struct Batch<'a> {
    pub(crate) shared: &'a Shared<'a>,
    /// The tables and everything that they reference.
    pub(crate) nodes: BTreeMap<u32, Node>,
    pub(crate) targets: Vec<u32>,
}

/// One table under attack by one role, and what was tried so far.
pub(super) struct Front<'a> {
    pub(super) oid: u32,
    role: &'a Role,
    privileges: &'a Privileges,
    tried: Vec<Tried>,
    unset: bool,
    /// What could not be tried at the end.
    unsaid: Option<String>,
}

/// What the outcomes are seen against.
struct Sight<'s> {
    clear: &'s BTreeMap<u32, Vec<String>>,
    unknown: uuid::Uuid,
    baselines: &'s BTreeMap<u32, String>,
    /// Why the contract's preparation did not work.
    unprepared: Option<String>,
    /// Tables that no role has a right on, with what came of trying all the same: nothing, or why that proves nothing.
    kept_out: BTreeMap<u32, Option<String>>,
}

impl<'a> Batch<'a> {
    /// Attacks every table of the batch. Returns how many tables are done in all.
    pub(crate) async fn run(&self, done: usize, results: &mut Results) -> Result<usize> {
        // A session of its own: a setting that was ever set never reads as unset again.
        let mut connection =
            crate::db::connect(self.shared.settings.connect.clone(), CONNECT_TIMEOUT).await?;
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
        let outcome = self.attack(&mut connection, done, results).await;
        // Whatever happened, and whether or not the connection still answers: closing it rolls back as well.
        let closed = match connection.execute("ROLLBACK").await {
            Ok(_) => connection.close().await,
            Err(_) => connection.close_hard().await,
        };
        let done = outcome?;
        closed?;
        Ok(done)
    }

    /// The attacks, in the transaction that the connection is in.
    pub(crate) async fn attack(
        &self,
        connection: &mut PgConnection,
        done: usize,
        results: &mut Results,
    ) -> Result<usize> {
        let scope = self.shared.scope;
        let settings = self.shared.settings;
        connection
            .execute(sqlx::raw_sql(trusted(format!(
                "SET LOCAL statement_timeout = {}; SET LOCAL lock_timeout = {}; SET LOCAL \
                 idle_in_transaction_session_timeout = '5min'; SET LOCAL row_security = on",
                settings.statement_timeout.as_millis(),
                settings.lock_timeout.as_millis()
            ))))
            .await?;
        // Whoever interrupts leaves nothing that runs on: the server looks after its client, where it can.
        connection
            .execute(
                "DO $$ BEGIN PERFORM pg_catalog.set_config('client_connection_check_interval', '1s', true); \
                 EXCEPTION WHEN OTHERS THEN NULL; END $$",
            )
            .await?;
        let preset: bool = sqlx::query_scalar(
            "SELECT coalesce(bool_or(pg_catalog.current_setting(s.name, true) IS NOT NULL), false) FROM \
             pg_catalog.unnest($1::text[]) AS s(name)",
        )
        .bind(scope.acting.settings())
        .fetch_one(&mut *connection)
        .await?;
        let ids = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
        let mut seeder = Seeder {
            nodes: &self.nodes,
            tenants: [ids[0], ids[1]],
            acting: &scope.acting,
            suspected: settings.suspected,
            canaries: Canaries::default(),
        };
        let mut fronts = self.fronts();
        let hand = |role, in_context| Hand { role, in_context };
        let mut unprepared = None;
        let early = self.shared.privileged && !preset;
        if early {
            seeder.fill(connection, &[hand(Maker::Home, false)]).await?;
            unprepared = self.prepare(connection, &mut seeder).await?;
            let clear = self.clear(&seeder);
            self.fight(connection, &mut fronts, &seeder, &clear, ids[2], true).await?;
        }
        if self.nodes.keys().any(|oid| !seeder.canaries.rows.contains_key(oid)) {
            let named = hand(Maker::Named(scope.app.name.clone()), true);
            let hands = if self.shared.privileged {
                vec![hand(Maker::Home, true), named]
            } else {
                vec![hand(Maker::Home, true), named, hand(Maker::Owner, true)]
            };
            seeder.fill(connection, &hands).await?;
        }
        if !early || unprepared.is_some() {
            unprepared = self.prepare(connection, &mut seeder).await?;
        }
        let clear = self.clear(&seeder);
        self.fight(connection, &mut fronts, &seeder, &clear, ids[2], false).await?;
        let baselines = self.baselines(connection, &fronts, &seeder, ids[2]).await?;
        self.doors(connection, &seeder, &clear, results).await?;
        if done == 0 {
            self.climb(connection, &seeder, results).await?;
        }
        let kept_out = self.knock(connection, &fronts, results).await?;
        let line = self.wire(connection, &mut fronts, &seeder, &clear, ids[2]).await?;
        results.spoiled |= line == Line::Spoiled;
        let view = Sight { clear: &clear, unknown: ids[2], baselines: &baselines, unprepared, kept_out };
        self.verdicts(&fronts, &seeder, &view, results);
        self.drop_echoes(results);
        let done = done + self.targets.len();
        if let Some(progress) = settings.progress {
            progress(Progress { done, total: self.shared.tables.len() });
        }
        Ok(done)
    }

    fn fronts(&self) -> Vec<Front<'a>> {
        let mut fronts = Vec::new();
        for oid in &self.targets {
            for role in &self.shared.attackers {
                if let Some(privileges) = self.shared.privileges.get(&(*oid, role.oid.0)) {
                    fronts.push(Front {
                        oid: *oid,
                        role,
                        privileges,
                        tried: Vec::new(),
                        unset: false,
                        unsaid: None,
                    });
                }
            }
        }
        fronts
    }

    fn clear(&self, seeder: &Seeder<'_>) -> BTreeMap<u32, Vec<String>> {
        self.targets.iter().map(|oid| (*oid, seeder.clear_dependents(*oid, &[0, 1]))).collect()
    }

    fn openers(&self, other: &str) -> BTreeMap<u32, Openers> {
        let of = |oid: &u32| {
            let (node, policies) = (self.nodes.get(oid)?, self.shared.policies.get(oid)?);
            Some((*oid, openers(node, policies, &self.shared.scope.acting, other)))
        };
        self.targets.iter().filter_map(of).collect()
    }

    /// Runs the attacks of every front that has rows: those without a context, or all others.
    async fn fight(
        &self,
        connection: &mut PgConnection,
        fronts: &mut [Front<'a>],
        seeder: &Seeder<'_>,
        clear: &BTreeMap<u32, Vec<String>>,
        unknown: uuid::Uuid,
        unset: bool,
    ) -> Result<()> {
        let other = seeder.acting.key(1).map_or_else(|| seeder.tenants[1].to_string(), String::from);
        let openers = self.openers(&other);
        let mut pending: Vec<(usize, crate::rls::probe::attack::Attack)> = Vec::new();
        let mut items: Vec<Item> = Vec::new();
        for (at, front) in fronts.iter_mut().enumerate() {
            let Some(target) =
                self.target(front.oid, front.role, front.privileges, seeder, clear, &openers, unknown)
            else {
                continue;
            };
            front.unset |= unset;
            for (attack, item) in if unset { target.before_context() } else { target.after() } {
                pending.push((at, attack));
                items.push(item);
            }
        }
        let outcomes = runner::run(connection, &items).await?;
        for (((at, attack), item), outcome) in pending.into_iter().zip(items).zip(outcomes) {
            fronts[at].tried.push((attack, item, outcome));
        }
        Ok(())
    }

    /// Runs what has to go over the connection itself.
    async fn wire(
        &self,
        connection: &mut PgConnection,
        fronts: &mut [Front<'a>],
        seeder: &Seeder<'_>,
        clear: &BTreeMap<u32, Vec<String>>,
        unknown: uuid::Uuid,
    ) -> Result<Line> {
        let openers = BTreeMap::new();
        wire::begin(connection).await?;
        let mut line = Line::Open;
        for front in fronts.iter_mut() {
            let Some(target) =
                self.target(front.oid, front.role, front.privileges, seeder, clear, &openers, unknown)
            else {
                continue;
            };
            if line == Line::Spoiled {
                front.unsaid = Some("COPY was not tried: one before it cost the connection".into());
                continue;
            }
            let (tried, after) = wire::read(connection, &target).await?;
            front.tried.extend(tried);
            line = after;
        }
        Ok(line)
    }

    #[expect(clippy::too_many_arguments, reason = "a target borrows from everything that was prepared")]
    fn target<'t>(
        &'t self,
        oid: u32,
        role: &'t Role,
        privileges: &'t Privileges,
        seeder: &'t Seeder<'_>,
        clear: &'t BTreeMap<u32, Vec<String>>,
        openers: &'t BTreeMap<u32, Openers>,
        unknown: uuid::Uuid,
    ) -> Option<Target<'t>> {
        const NONE: &[Option<Values>; 2] = &[None, None];
        let node = self.nodes.get(&oid)?;
        let column = node.column(node.tenant?)?;
        let rows = seeder.canaries.rows.get(&oid)?;
        Some(Target {
            node,
            role: &role.name,
            privileges,
            rows,
            spares: seeder.canaries.spares.get(&oid).unwrap_or(NONE),
            tenants: [seeder.key(column, 0), seeder.key(column, 1), tenant_value(column, &unknown)],
            acting: &self.shared.scope.acting,
            clear: clear.get(&oid).map(Vec::as_slice).unwrap_or_default(),
            openers: openers.get(&oid),
            clear_other: if self.shared.prepared.is_empty() {
                Vec::new()
            } else {
                seeder.clear_dependents(oid, &[1])
            },
            suspected: self.shared.settings.suspected.get(&oid).map(Vec::as_slice).unwrap_or_default(),
            join: self.join(oid, seeder),
            entangled: self.entangled(oid, seeder),
            oracle_role: (!self.shared.privileged).then_some(self.shared.scope.app.name.as_str()),
        })
    }

    /// What the oracle sees of tenant B in each table.
    async fn baselines(
        &self,
        connection: &mut PgConnection,
        fronts: &[Front<'a>],
        seeder: &Seeder<'_>,
        unknown: uuid::Uuid,
    ) -> Result<BTreeMap<u32, String>> {
        let (clear, openers) = (BTreeMap::new(), BTreeMap::new());
        let mut items = Vec::new();
        let mut oids = Vec::new();
        for front in fronts {
            if oids.contains(&front.oid) {
                continue;
            }
            if let Some(target) =
                self.target(front.oid, front.role, front.privileges, seeder, &clear, &openers, unknown)
            {
                items.push(target.oracle_item());
                oids.push(front.oid);
            }
        }
        let outcomes = runner::run(connection, &items).await?;
        Ok(oids
            .into_iter()
            .zip(outcomes.into_iter().map(|outcome| outcome.answer.unwrap_or_default()))
            .collect())
    }

    async fn doors(
        &self,
        connection: &mut PgConnection,
        seeder: &Seeder<'_>,
        clear: &BTreeMap<u32, Vec<String>>,
        results: &mut Results,
    ) -> Result<()> {
        let roles: BTreeMap<u32, String> =
            self.shared.attackers.iter().map(|role| (role.oid.0, role.name.clone())).collect();
        let house = House {
            nodes: &self.nodes,
            canaries: &seeder.canaries,
            acting: &self.shared.scope.acting,
            roles: &roles,
            clear,
        };
        let views = house.try_views(connection, &self.shared.views).await?;
        self.take(results, seeder, views, "view-definer");
        let stored = house.try_stored(connection, &self.shared.views).await?;
        self.take(results, seeder, stored, "materialized-view");
        let functions = house.try_functions(connection, &self.shared.functions).await?;
        self.take(results, seeder, functions, "function-definer");
        Ok(())
    }

    fn take(&self, results: &mut Results, seeder: &Seeder<'_>, doors: Doors, check: &'static str) {
        results.attempts.tried += doors.tried;
        results.attempts.succeeded += doors.open.len();
        results.attempts.failed += doors.tried - doors.open.len().min(doors.tried);
        results.cleared.extend(doors.shut);
        for open in doors.open {
            let leak = Leak {
                check,
                severity: Severity::Error,
                object: open.name,
                object_kind: open.kind.into(),
                detail: String::new(),
                message: "leads to other tenants' rows".into(),
                evidence: open.evidence,
            };
            let script = self.script_of_door(seeder, &leak, &open.shown);
            results.scripts.entry((check.into(), leak.object.clone())).or_insert(script);
            results.leaks.push(leak);
        }
    }

    /// One defect, one finding: what an invoker's view shows of a table that leaks itself is the table's leak.
    fn drop_echoes(&self, results: &mut Results) {
        let leaking: BTreeSet<&str> = results
            .verdicts
            .iter()
            .filter(|table| table.verdict == Verdict::Leak)
            .map(|table| table.object.as_str())
            .collect();
        let leaks = |oid: &sqlx::postgres::types::Oid| {
            self.shared.tables.get(&oid.0).is_some_and(|table| leaking.contains(table.name.as_str()))
        };
        let echoes: BTreeSet<&str> = self
            .shared
            .views
            .iter()
            .filter(|view| view.invoker && view.tables.iter().any(leaks))
            .map(|view| view.name.as_str())
            .collect();
        results.leaks.retain(|leak| leak.check != "view-definer" || !echoes.contains(leak.object.as_str()));
    }

    fn verdicts(&self, fronts: &[Front<'a>], seeder: &Seeder<'_>, view: &Sight<'_>, results: &mut Results) {
        let openers = BTreeMap::new();
        // Only who looks past the policies can tell whether something changed.
        let tests = self.shared.settings.tests && self.shared.privileged;
        if tests {
            results.tests.rows.extend(self.rows(&self.targets, seeder));
        }
        for oid in &self.targets {
            let Some(table) = self.shared.scope.tables.iter().find(|table| table.oid.0 == *oid) else {
                continue;
            };
            let mut reasons: BTreeSet<String> = view.unprepared.iter().cloned().collect();
            let (mut leaked, mut tried) = (false, 0);
            if let Some(reason) = view.kept_out.get(oid) {
                reasons.extend(reason.clone());
                tried += 1;
            }
            for front in fronts.iter().filter(|front| front.oid == *oid) {
                let Some(target) = self.target(
                    *oid,
                    front.role,
                    front.privileges,
                    seeder,
                    view.clear,
                    &openers,
                    view.unknown,
                ) else {
                    reasons.insert(self.why_not(table, seeder));
                    continue;
                };
                let baseline = view.baselines.get(oid).map(String::as_str).unwrap_or_default();
                if baseline.is_empty() {
                    reasons.insert(
                        "the rows that were made cannot be seen by whoever runs the verification".into(),
                    );
                }
                let judgement = judge(table, &target, &front.tried, baseline);
                if tests {
                    pgtap::add(&mut results.tests, &target, &front.tried);
                }
                self.write_down(
                    &target,
                    seeder,
                    &front.tried,
                    baseline,
                    &judgement.leaks,
                    &mut results.scripts,
                );
                leaked |= judgement.leaks.iter().any(|leak| leak.severity == Severity::Error);
                tried += judgement.attempts.tried;
                results.attempts.tried += judgement.attempts.tried;
                results.attempts.failed += judgement.attempts.failed;
                results.attempts.succeeded += judgement.attempts.succeeded;
                results.attempts.inconclusive += judgement.attempts.inconclusive;
                reasons.extend(judgement.reasons);
                reasons.extend(front.unsaid.clone());
                if !front.unset && self.unset_differs(*oid) {
                    reasons
                        .insert("a context that was never set could not be tried: its rows need one".into());
                }
                results.leaks.extend(judgement.leaks);
            }
            let verdict = match (leaked, reasons.is_empty()) {
                (true, _) => Verdict::Leak,
                (false, true) => Verdict::Proven,
                (false, false) => Verdict::NotProven,
            };
            if verdict == Verdict::Proven {
                results.cleared.insert(*oid);
            }
            if verdict == Verdict::NotProven {
                let reason = reasons.into_iter().collect::<Vec<_>>().join("; ");
                results.not_proven.push(NotProven { object: table.name.clone(), reason });
            }
            results.verdicts.push(TableVerdict { object: table.name.clone(), verdict, tried });
        }
    }

    fn why_not(&self, table: &Table, seeder: &Seeder<'_>) -> String {
        let node = self.nodes.get(&table.oid.0);
        if node.is_none_or(|node| node.tenant.is_none()) {
            let column = table.tenant_column.as_deref().unwrap_or_default();
            return format!("it has no column {}", literal(column));
        }
        seeder.canaries.reasons.get(&table.oid.0).cloned().unwrap_or_else(|| "no row could be made".into())
    }

    /// Whether a setting that was never set could mean something else to the policies than an empty one. The control
    /// plane's functions make one of both.
    fn unset_differs(&self, oid: u32) -> bool {
        self.shared.policies.get(&oid).is_some_and(|policies| {
            policies.expressions.contains("current_setting") || !policies.functions.is_empty()
        })
    }
}
