//! What `rls setup --online` says while it works.

use tenancy::rls::online::Event;

use crate::output::{Notes, Progress};

/// Moves the bar, and writes a line where others are waited for.
pub(super) fn tell(notes: &Notes, bar: &Progress, event: &Event<'_>) {
    match event {
        Event::Table { done, of, name } => {
            bar.set(*done as u64, *of as u64);
            bar.say(name);
        }
        Event::Step { table, statement } => {
            let kind: Vec<&str> = statement.split_whitespace().take(2).collect();
            bar.say(&format!("{table}: {}", kind.join(" ")));
        }
        Event::Building { phase, percent: Some(percent) } => bar.say(&format!("{phase}: {percent} %")),
        Event::Building { phase, percent: None } => bar.say(phase),
        Event::Waiting { table, blockers, pause } => {
            let whom = match *blockers {
                [] => "others".to_owned(),
                some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            };
            let then = match pause {
                Some(pause) => format!(", next try in {:.1} s", pause.as_secs_f64()),
                None => String::new(),
            };
            bar.aside(|| notes.note(&format!("{table}: waiting for {whom}{then}")));
        }
        _ => {}
    }
}
