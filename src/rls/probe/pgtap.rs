//! The attacks on a table as tests for pgTAP, which pass as long as none gets through.

use crate::db::quote::literal;
use crate::rls::probe::attack::{Attack, Command, Context, Target, counts};
use crate::rls::probe::judge::Tried;
use crate::rls::probe::repro::rows_of;
use crate::rls::probe::runner::{Item, Outcome};
use crate::rls::report::Tests;

/// Adds a test for each attack on the table.
pub(super) fn add(tests: &mut Tests, target: &Target<'_>, tried: &[Tried]) {
    for (attack, item, outcome) in tried {
        if let Some(test) = test(target, attack, item, outcome) {
            let unset = attack.context == Context::Unset;
            if unset { &mut tests.before_context } else { &mut tests.after }.push(test);
        }
    }
}

fn test(target: &Target<'_>, attack: &Attack, item: &Item, outcome: &Outcome) -> Option<String> {
    let what = match attack.command {
        Command::Read => "SELECT",
        Command::Insert => "INSERT of another tenant's row",
        Command::Update => "UPDATE",
        Command::MoveOut => "UPDATE that gives a row away",
        Command::MoveIn => "UPDATE that takes a row over",
        Command::Delete => "DELETE",
        // Written down by the attacks above already, or no single statement.
        Command::OwnInsert | Command::Extra(_) => return None,
    };
    let mut words = format!("{}: {what} as {} {}", target.node.name, target.role, attack.context.words());
    if let Some((setting, value)) = &attack.spoof {
        words.push_str(&format!(" with {setting} = {}", literal(value)));
    }
    if let Some(flag) = &attack.flag {
        words.push_str(&format!(", where the other tenant's row has {flag}"));
    }
    let reads = attack.command == Command::Read;
    let question = (!reads).then(|| {
        rows_of(
            target,
            attack,
            "pg_catalog.string_agg(pg_catalog.concat(tableoid, ctid), ' ' ORDER BY tableoid, ctid)",
        )
    });
    let attempt = format!(
        "pg_temp.attempt({}, {}, {}, {}, {})",
        literal(target.role),
        settings(target, item),
        array(&item.prep),
        array(&item.attempts),
        question.map_or("NULL".into(), |question| literal(&question))
    );
    let words = literal(&words);
    Some(if !reads {
        format!("isnt({attempt}, 'changed', {words})")
    } else if attack.context == Context::B {
        // The control: what the attacks look for is there to be seen.
        format!("is({attempt}, {}, {words})", literal(outcome.answer.as_deref().unwrap_or("refused")))
    } else if attack.context == Context::A {
        let own = format!("[{}, 0]", counts(outcome)[0]);
        let own = if outcome.attempt.is_some() { own } else { "refused".into() };
        format!("is({attempt}, {}, {words})", literal(&own))
    } else {
        format!("matches({attempt}, '^(refused|.0, 0.)$', {words})")
    })
}

/// The settings as SQL; a tenant is signed when the test runs.
fn settings(target: &Target<'_>, item: &Item) -> String {
    if !target.acting.is_sealed() {
        return literal(&serde_json::Value::from_iter(item.settings.clone()).to_string());
    }
    let pairs: Vec<String> = item
        .settings
        .iter()
        .map(|(name, value)| format!("{}, {}", literal(name), target.acting.expression(value)))
        .collect();
    format!("pg_catalog.jsonb_build_object({})", pairs.join(", "))
}

fn array(statements: &[String]) -> String {
    let statements: Vec<String> = statements.iter().map(|statement| literal(statement)).collect();
    format!("ARRAY[{}]::text[]", statements.join(", "))
}
