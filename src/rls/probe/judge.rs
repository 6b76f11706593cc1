//! From the outcomes of all attacks on one table by one role to a verdict.

use std::collections::BTreeSet;

use crate::rls::probe::Leak;
use crate::rls::probe::attack::{Attack, Command, Context, Meaning, Target, counts};
use crate::rls::probe::commands::Extra;
use crate::rls::probe::oracles::Told;
use crate::rls::probe::runner::{Item, Outcome};
use crate::rls::report::{Attempts, Severity};
use crate::rls::scope::Table;

/// What the attacks on one table by one role came to.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) leaks: Vec<Leak>,
    pub(crate) reasons: BTreeSet<String>,
    pub(crate) attempts: Attempts,
}

/// An attack, as it was sent and what came of it.
pub(crate) type Tried = (Attack, Item, Outcome);

/// Judges the attacks on one table by one role.
pub(crate) fn judge(table: &Table, target: &Target<'_>, tried: &[Tried], baseline: &str) -> Judgement {
    let mut judgement = Judgement::default();
    let mut leaks: Vec<(&Attack, String)> = Vec::new();
    for (attack, item, outcome) in tried {
        let is_control = attack.context == Context::B || attack.command == Command::OwnInsert;
        if is_control {
            continue;
        }
        judgement.attempts.tried += 1;
        if let Command::Extra(extra @ (Extra::Take(_) | Extra::Point(_))) = attack.command {
            let told = target.told(attack, item, outcome);
            if let Some(told) = told {
                judgement.attempts.succeeded += 1;
                judgement.oracle(table, extra, told);
            } else {
                judgement.attempts.failed += 1;
            }
            continue;
        }
        let meaning = target.judge(attack, item, outcome, baseline);
        match meaning {
            Meaning::Leak(evidence) => {
                judgement.attempts.succeeded += 1;
                leaks.push((attack, evidence));
            }
            Meaning::Stopped(evidence) => {
                judgement.attempts.failed += 1;
                judgement.add(table, "check-leak", Severity::Warning, MOVED, evidence);
            }
            Meaning::Denied => judgement.attempts.failed += 1,
            Meaning::Unclear(reason) => {
                judgement.attempts.inconclusive += 1;
                judgement.reasons.insert(format!("{} as {}: {reason}", verb(attack.command), target.role));
            }
        }
        let empty =
            attack.context == Context::Empty && attack.command == Command::Read && attack.spoof.is_none();
        // Denied, or a circle of policies, which recursive-policy tells: neither has to do with the context.
        let about_context = |code: &str| !matches!(code, "42501" | "42P17" | "54001");
        if let Some(error) = outcome.error().filter(|error| empty && about_context(&error.code)) {
            let evidence = format!(
                "as {} in an empty context: SELECT → {} ({})",
                target.role, error.message, error.code
            );
            let message = "reading without a tenant raises an error on a connection that had one before";
            judgement.add(table, "context-uncast-empty", Severity::Warning, message, evidence);
        }
    }
    let plain_in_a: BTreeSet<Command> = leaks
        .iter()
        .filter(|(attack, _)| attack.context == Context::A && attack.spoof.is_none())
        .map(|(attack, _)| attack.command)
        .collect();
    let plain: BTreeSet<(Context, Command)> = leaks
        .iter()
        .filter(|(attack, _)| attack.spoof.is_none())
        .map(|(attack, _)| (attack.context, attack.command))
        .collect();
    let mut beside = false;
    for (attack, evidence) in &leaks {
        let known = plain_in_a.contains(&attack.command)
            && (attack.context != Context::A || attack.spoof.is_some())
            || attack.spoof.is_some() && plain.contains(&(attack.context, attack.command));
        if known {
            continue;
        }
        if let Command::Extra(extra) = attack.command {
            let (check, message) = extra.check();
            if extra == Extra::Truncate {
                judgement.add(table, check, Severity::Error, message, evidence.clone());
                continue;
            }
            // One defect, one finding: what a plain command reaches, and what another of these does, is known.
            if std::mem::replace(&mut beside, true) || !plain.iter().all(|(_, command)| is_extra(*command)) {
                continue;
            }
        }
        let (check, message) = classify(attack, plain_in_a.contains(&Command::Read));
        if !table.row_security {
            judgement.add(
                table,
                if table.is_child { "partition-open" } else { "rls-disabled" },
                Severity::Error,
                "row-level security is off, and other tenants' rows are reached",
                evidence.clone(),
            );
        } else if table.owner_unbound {
            judgement.add(
                table,
                "rls-not-forced",
                Severity::Error,
                "row-level security is not forced, and the application role acts for the owner",
                evidence.clone(),
            );
        } else {
            judgement.add(table, check, Severity::Error, message, evidence.clone());
        }
    }
    if leaks.is_empty() {
        judgement.reasons.extend(control(target, tried));
    }
    judgement
}

const MOVED: &str = "the policies let a row move between tenants; only a constraint stops it";

fn classify(attack: &Attack, reads: bool) -> (&'static str, &'static str) {
    if attack.spoof.is_some() {
        return ("spoofable-bypass", "a session variable opens the table");
    }
    if matches!(attack.context, Context::Forged(_)) {
        return ("spoofable-bypass", "a tenant that nobody signed opens the table");
    }
    if attack.context != Context::A && !is_extra(attack.command) {
        return ("fails-open", "without a tenant in context rows are reached");
    }
    match attack.command {
        Command::Read => ("permissive-leak", "one tenant reads another's rows"),
        Command::Insert | Command::OwnInsert => ("check-leak", "a row can be written into another tenant"),
        Command::MoveOut => ("check-leak", "a row can be moved into another tenant"),
        Command::MoveIn => ("check-leak", "another tenant's row can be taken over"),
        // What can be read and changed is one leak, not two.
        Command::Update | Command::Delete if reads => {
            ("permissive-leak", "one tenant reads and changes another's rows")
        }
        Command::Update => ("delete-leak", "UPDATE reaches other tenants' rows that SELECT hides"),
        Command::Delete => ("delete-leak", "DELETE reaches other tenants' rows that SELECT hides"),
        Command::Extra(extra) => extra.check(),
    }
}

fn is_extra(command: Command) -> bool {
    matches!(command, Command::Extra(_))
}

fn verb(command: Command) -> &'static str {
    match command {
        Command::Read => "SELECT",
        Command::Insert | Command::OwnInsert => "INSERT",
        Command::Update => "UPDATE",
        Command::MoveOut | Command::MoveIn => "UPDATE of the tenant",
        Command::Delete => "DELETE",
        Command::Extra(extra) => extra.verb(),
    }
}

/// A zero counts only when a non-zero backs it: why nothing backs it here.
fn control(target: &Target<'_>, tried: &[Tried]) -> Option<String> {
    let find = |context, command| {
        tried
            .iter()
            .find(|(attack, ..)| {
                attack.spoof.is_none()
                    && attack.flag.is_none()
                    && attack.context == context
                    && attack.command == command
            })
            .map(|(_, _, outcome)| outcome)
    };
    let role = target.role;
    if target.privileges.selects.is_empty() {
        let worked = [Command::OwnInsert, Command::Update, Command::Delete]
            .iter()
            .any(|command| find(Context::A, *command).is_some_and(|outcome| outcome.touched > 0));
        return (!worked).then(|| format!("no statement of {role} has any effect in its own tenant"));
    }
    for (context, at) in [(Context::A, 0), (Context::B, 1)] {
        let Some(outcome) = find(context, Command::Read) else { continue };
        if let Some(error) = outcome.error() {
            return Some(format!(
                "{role} cannot read its own tenant's row: {} ({})",
                error.message, error.code
            ));
        }
        let seen = counts(outcome);
        if seen[at] == 0 && seen[0] == 0 {
            return Some(format!(
                "{role} does not see its own tenant's row, so that seeing no other proves nothing"
            ));
        }
    }
    None
}

impl Judgement {
    /// Adds a leak; the first evidence of a check on a table stands for the rest.
    fn add(
        &mut self,
        table: &Table,
        check: &'static str,
        severity: Severity,
        message: &str,
        evidence: String,
    ) {
        if let Some(known) = self.leaks.iter_mut().find(|leak| leak.check == check) {
            if severity > known.severity {
                known.severity = severity;
                known.message = message.into();
                known.evidence = evidence;
            }
            return;
        }
        self.leaks.push(Leak {
            check,
            severity,
            object: table.name.clone(),
            object_kind: table.object_kind.clone(),
            detail: String::new(),
            message: message.into(),
            evidence,
        });
    }

    /// Adds what a key told.
    fn oracle(&mut self, table: &Table, extra: Extra, told: Told) {
        let (check, message) = extra.check();
        self.leaks.push(Leak {
            check,
            severity: if matches!(extra, Extra::Take(_)) { Severity::Warning } else { Severity::Error },
            object: table.name.clone(),
            object_kind: table.object_kind.clone(),
            detail: told.key,
            message: message.into(),
            evidence: told.evidence,
        });
    }
}
