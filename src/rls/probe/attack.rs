//! The statements that try to cross from one tenant to another, and what their outcome means.

use std::collections::BTreeMap;

use crate::db::quote::{ident, literal};
use crate::rls::contract::{Acting, Forgery};
use crate::rls::probe::commands::Extra;
use crate::rls::probe::openers::Openers;
use crate::rls::probe::row::Values;
use crate::rls::probe::runner::{Item, Outcome};
use crate::rls::probe::schema::{Node, Privileges};

/// The tenant that a statement claims to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Context {
    /// The setting was never set in this session.
    Unset,
    /// It reads ''.
    Empty,
    /// It is well-formed and names nobody.
    Hollow,
    /// It is no tenant's key at all.
    Garbage,
    /// It is a key of the right kind that no tenant has.
    Unknown,
    /// It claims to be tenant B, and nobody signed that.
    Forged(Forgery),
    /// Tenant A, who attacks.
    A,
    /// Tenant B, whose rows are attacked.
    B,
}

impl Context {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Unset => "without a context",
            Self::Empty => "in an empty context",
            Self::Hollow => "in a context that names nobody",
            Self::Garbage => "in the context 'not-a-tenant; --'",
            Self::Unknown => "in the context of a tenant that does not exist",
            Self::Forged(Forgery::Bare) => "in a context that names tenant B without a signature",
            Self::Forged(Forgery::Mac) => "in the context of tenant B with a forged signature",
            Self::Forged(Forgery::Swapped) => "in the context of tenant B with the signature of tenant A's",
            Self::Forged(Forgery::Expired) => "in a context of tenant B that has expired",
            Self::A => "in the context of tenant A",
            Self::B => "in the context of tenant B",
        }
    }
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Command {
    /// Reads both tenants' rows.
    Read,
    /// Adds a row of tenant B.
    Insert,
    /// Changes rows where they are.
    Update,
    /// Gives tenant A's row to tenant B.
    MoveOut,
    /// Takes tenant B's row for tenant A.
    MoveIn,
    /// Deletes.
    Delete,
    /// Adds a row of tenant A, which must succeed where reading is not allowed.
    OwnInsert,
    /// One of the commands beside these.
    Extra(Extra),
}

/// A statement that was tried, and in which circumstances.
#[derive(Debug, Clone)]
pub(crate) struct Attack {
    pub(crate) context: Context,
    pub(crate) command: Command,
    /// A setting that was set besides, and to what.
    pub(crate) spoof: Option<(String, String)>,
    /// A value that tenant B's row was given before.
    pub(crate) flag: Option<String>,
    /// Whether reading can only count rows, not tell whose they are.
    pub(crate) counts: bool,
}

/// What the outcome of an attack means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It got through.
    Leak(String),
    /// It got past the policies, and a constraint stopped it.
    Stopped(String),
    /// It failed.
    Denied,
    /// It failed for a reason that has nothing to do with isolation.
    Unclear(String),
}

/// A tenant table under attack by one role.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) node: &'a Node,
    pub(crate) role: &'a str,
    pub(crate) privileges: &'a Privileges,
    /// Rows of A and B.
    pub(crate) rows: &'a [Values; 2],
    /// Rows that could be added for A and B.
    pub(crate) spares: &'a [Option<Values>; 2],
    /// Keys of A, B and of a tenant that does not exist, as the tenant column holds them.
    pub(crate) tenants: [String; 3],
    pub(crate) acting: &'a Acting,
    /// Statements that take away what references the table.
    pub(crate) clear: &'a [String],
    /// What the policies name that might open them.
    pub(crate) openers: Option<&'a Openers>,
    /// Those that take away no more than B's, where A's make the user a member.
    pub(crate) clear_other: Vec<String>,
    /// What a user of A would do to become a member of B.
    pub(crate) join: Vec<String>,
    /// Whether a row that the probes did not make themselves references the table.
    pub(crate) entangled: bool,
    /// Names of keys that the catalogue suspects of telling what other tenants have.
    pub(crate) suspected: &'a [String],
    /// Where the oracle is not exempt from the policies itself: the role and settings that it asks as.
    pub(crate) oracle_role: Option<&'a str>,
}

impl Target<'_> {
    /// Attacks that must run before the context is set for the first time in the session.
    pub(crate) fn before_context(&self) -> Vec<(Attack, Item)> {
        self.in_context(
            Context::Unset,
            None,
            &[Command::Read, Command::Insert, Command::Update, Command::Delete],
        )
    }

    /// All others.
    pub(crate) fn after(&self) -> Vec<(Attack, Item)> {
        use Command::{Delete, Insert, MoveIn, MoveOut, OwnInsert, Read, Update};
        let mut all = Vec::new();
        let hollow = self.acting.hollow().map(|_| Context::Hollow);
        let forged = self.acting.forgeries().iter().map(|forgery| Context::Forged(*forgery));
        for context in
            [Context::Empty, Context::Garbage, Context::Unknown].into_iter().chain(hollow).chain(forged)
        {
            all.extend(self.in_context(context, None, &[Read, Insert, Update, Delete]));
        }
        all.extend(self.in_context(Context::A, None, &[Read, Insert, Update, MoveOut, MoveIn, Delete]));
        if self.privileges.selects.is_empty() {
            all.extend(self.in_context(Context::A, None, &[OwnInsert]));
        }
        if !self.clear_other.is_empty() {
            for (attack, mut item) in self.in_context(Context::A, None, &[Delete]) {
                item.prep.clone_from(&self.clear_other);
                all.push((attack, item));
            }
        }
        for statement in &self.join {
            let mut item = self.item(Context::A, None);
            item.attempts.push(statement.clone());
            all.push((
                Attack { context: Context::A, command: Insert, spoof: None, flag: None, counts: false },
                item,
            ));
        }
        all.extend(self.in_context(Context::A, None, &Extra::IN_TENANT));
        all.extend(self.in_context(Context::A, None, &self.oracles()));
        all.extend(self.in_context(Context::B, None, &[Read]));
        let Some(openers) = self.openers else { return all };
        for flag in &openers.flags {
            for (mut attack, mut item) in self.in_context(Context::A, None, &[Read]) {
                if let (Some((_, column)), false) = (self.tenant_column(), attack.counts) {
                    item.prep.push(format!(
                        "UPDATE {} SET {flag} WHERE {column} = {}",
                        self.node.name,
                        literal(&self.tenants[1])
                    ));
                    attack.flag = Some(flag.clone());
                    all.push((attack, item));
                }
            }
        }
        for (setting, value) in &openers.spoofs {
            let spoof = Some((setting.clone(), value.clone()));
            let contexts: &[Context] =
                if self.acting.uses(setting) { &[Context::A] } else { &[Context::Empty, Context::A] };
            for context in contexts {
                all.extend(self.in_context(*context, spoof.clone(), &[Read, Insert, Delete]));
            }
        }
        all
    }

    /// What the oracle sees of tenant B: which rows, and which versions of them.
    pub(crate) fn oracle(&self) -> Option<String> {
        let column = ident(&self.node.column(self.node.tenant?)?.name);
        Some(format!(
            "SELECT coalesce(pg_catalog.string_agg(concat(tableoid, ctid), ' ' ORDER BY tableoid, ctid), '') FROM {} \
             WHERE {column} = {}",
            self.node.name,
            literal(&self.tenants[1])
        ))
    }

    /// The oracle's question as an item of its own.
    pub(crate) fn oracle_item(&self) -> Item {
        let mut item = self.item(Context::B, None);
        item.settings = item.oracle_settings.clone();
        item.role = item.oracle_role.take();
        item.attempts.extend(item.oracle.take());
        item.returns = true;
        item
    }

    fn settings(&self, context: Context) -> BTreeMap<String, String> {
        match context {
            Context::Unset => BTreeMap::new(),
            Context::Empty => self.acting.blank(),
            Context::Hollow => self.acting.with("", ""),
            Context::Garbage => self.acting.with("not-a-tenant; --", "not-a-tenant; --"),
            Context::Unknown => self.acting.tenant(&self.tenants[2], 2),
            Context::Forged(forgery) => self.acting.forged(forgery, &self.tenants[0], &self.tenants[1]),
            Context::A => self.acting.tenant(&self.tenants[0], 0),
            Context::B => self.acting.tenant(&self.tenants[1], 1),
        }
    }

    pub(crate) fn item(&self, context: Context, spoof: Option<&(String, String)>) -> Item {
        let mut settings = self.settings(context);
        settings.extend(spoof.cloned());
        let oracle_settings =
            if self.oracle_role.is_some() { self.settings(Context::B) } else { BTreeMap::new() };
        Item {
            role: Some(self.role.into()),
            settings,
            oracle: self.oracle(),
            oracle_role: self.oracle_role.map(Into::into),
            oracle_settings,
            ..Item::default()
        }
    }

    fn in_context(
        &self,
        context: Context,
        spoof: Option<(String, String)>,
        commands: &[Command],
    ) -> Vec<(Attack, Item)> {
        let mut found = Vec::new();
        for command in commands {
            let mut item = self.item(context, spoof.as_ref());
            let mut counts = false;
            let possible = match command {
                Command::Read => self.read(&mut item, &mut counts),
                Command::Insert => self.insert(&mut item, 1),
                Command::OwnInsert => self.insert(&mut item, 0),
                Command::Update => self.update(&mut item),
                Command::MoveOut => self.relocate(&mut item, 0, 1),
                Command::MoveIn => self.relocate(&mut item, 1, 0),
                Command::Delete => self.delete(&mut item),
                Command::Extra(extra) => self.extra(&mut item, *extra),
            };
            if possible.is_some() {
                found.push((
                    Attack { context, command: *command, spoof: spoof.clone(), flag: None, counts },
                    item,
                ));
            }
        }
        found
    }

    pub(crate) fn tenant_column(&self) -> Option<(i16, String)> {
        let attnum = self.node.tenant?;
        Some((attnum, ident(&self.node.column(attnum)?.name)))
    }

    /// What the outcome means, given what the oracle saw before.
    pub(crate) fn judge(&self, attack: &Attack, item: &Item, outcome: &Outcome, baseline: &str) -> Meaning {
        let stranger = !matches!(attack.context, Context::A | Context::B);
        let told = |what: &str| self.evidence(attack, item, outcome, what);
        if let Command::Extra(extra) = attack.command {
            return self.judge_extra(extra, attack, item, outcome, baseline);
        }
        if let Some(error) = outcome.error() {
            // No canary references the table any more: a reference that objects belongs to a row of somebody else.
            if attack.command == Command::Delete
                && outcome.prepped
                && !self.entangled
                && error.code == "23503"
            {
                return Meaning::Leak(told(&format!("reached rows of other tenants: {}", error.message)));
            }
            return match error.code.as_str() {
                "23503" | "23505" | "23P01"
                    if matches!(attack.command, Command::MoveIn | Command::MoveOut) && outcome.prepped =>
                {
                    Meaning::Stopped(told(&format!(
                        "the policies let it pass, a constraint stopped it: {}",
                        error.message
                    )))
                }
                "42501" => Meaning::Denied,
                code if code.starts_with("22") || code == "42704" || code == "44000" => Meaning::Denied,
                // A trigger of the application's own refuses the row: nothing was written.
                "P0001" if attack.command == Command::Insert => Meaning::Denied,
                // The oracle could add this very row: a trigger made another one of it, which does not fit.
                code if attack.command == Command::Insert
                    && self.spares[1].is_some()
                    && code.starts_with("23") =>
                {
                    Meaning::Denied
                }
                code => Meaning::Unclear(format!("{} ({code})", error.message)),
            };
        }
        match attack.command {
            Command::Read => {
                let [a, b] = counts(outcome);
                if attack.counts {
                    let own = i64::from(attack.context == Context::A || attack.context == Context::B);
                    if a > own {
                        Meaning::Leak(told(&format!("{a} rows, {own} of its own")))
                    } else {
                        Meaning::Denied
                    }
                } else if attack.context == Context::B {
                    Meaning::Denied
                } else if b > 0 || (stranger && attack.spoof.is_none() && a > 0) {
                    Meaning::Leak(told(&format!("{a} rows of tenant A, {b} of tenant B")))
                } else {
                    Meaning::Denied
                }
            }
            Command::OwnInsert | Command::Extra(_) => Meaning::Denied,
            Command::Insert | Command::Update | Command::MoveOut | Command::MoveIn | Command::Delete => {
                let before = outcome.before.as_deref().unwrap_or(baseline);
                let changed = outcome.seen.as_deref().is_some_and(|seen| seen != before);
                let touched_unseen = stranger
                    && outcome.touched > 0
                    && matches!(attack.command, Command::Update | Command::Delete);
                if changed || touched_unseen {
                    Meaning::Leak(told(&format!("{} rows", outcome.touched)))
                } else {
                    Meaning::Denied
                }
            }
        }
    }

    /// The statement that got through, as which role, in which context.
    pub(crate) fn evidence(&self, attack: &Attack, item: &Item, outcome: &Outcome, what: &str) -> String {
        let at = outcome.attempt.unwrap_or(outcome.refused.len().saturating_sub(1));
        let mut statement = item.attempts.get(at).cloned().unwrap_or_default();
        for (value, name) in self.tenants.iter().zip(["<tenant A>", "<tenant B>", "<no tenant>"]) {
            statement = statement.replace(value.as_str(), name);
        }
        if statement.chars().count() > 400 {
            statement = statement.chars().take(400).chain("…".chars()).collect();
        }
        let spoof = match &attack.spoof {
            Some((setting, value)) => {
                let value = if *value == self.tenants[1] { "<tenant B>" } else { value };
                format!(" with {setting} = {}", literal(value))
            }
            None => String::new(),
        };
        let flag =
            attack.flag.as_ref().map_or(String::new(), |flag| format!(", where tenant B's row has {flag}"));
        format!("as {} {}{spoof}{flag}: {statement} → {what}", self.role, attack.context.words())
    }
}

/// Rows of A and of B that a reading attack saw.
pub(crate) fn counts(outcome: &Outcome) -> [i64; 2] {
    outcome.answer.as_deref().and_then(|answer| serde_json::from_str(answer).ok()).unwrap_or_default()
}
