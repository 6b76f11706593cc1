//! `tenantctl usage history`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::Error;
use tenancy::usage::{self, Days, Entries, Span};
use time::{Date, Duration, OffsetDateTime};

use crate::cli::app::App;
use crate::cli::tenant::TenantArg;
use crate::output::{Report, View, sparkline};

/// How many entries are shown where nothing else is asked for.
const ENTRIES: u32 = 50;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// What was used
    #[arg(long)]
    metric: String,
    /// What a line stands for
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,
    /// From when on, as 2026-11-30 or 2026-11-30T12:00:00Z [default by day: 30 days]
    #[arg(long, value_name = "DAY|TIME", value_parser = parse_since)]
    since: Option<OffsetDateTime>,
    /// Until when: a day, itself included, or a time [default: now]
    #[arg(long, value_name = "DAY|TIME", value_parser = parse_until)]
    until: Option<OffsetDateTime>,
    /// Most entries of a history by key [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// What a line of a history stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// A day of UTC
    Day,
    /// An entry of the ledger with its key, newest first
    Key,
}

/// A day of UTC, as it is written on the command line.
fn parse_day(text: &str) -> Option<OffsetDateTime> {
    Date::parse(text, time::macros::format_description!("[year]-[month]-[day]"))
        .ok()
        .map(|day| day.midnight().assume_utc())
}

fn parse_since(text: &str) -> Result<OffsetDateTime, String> {
    parse_day(text).map_or_else(|| super::parse_time(text), Ok)
}

fn parse_until(text: &str) -> Result<OffsetDateTime, String> {
    match parse_day(text) {
        Some(day) => {
            day.checked_add(Duration::DAY).ok_or_else(|| "it is the last day that there is".to_owned())
        }
        None => super::parse_time(text),
    }
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum History {
    Days(Days),
    Entries(Entries),
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<History> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let span = Span { since: self.since, until: self.until };
        let metric = self.metric;
        match (self.by, self.limit) {
            (By::Day, Some(limit)) => {
                let reason = "a history by day shows every day; narrow it with --since";
                Err(Error::invalid("limit", limit.to_string(), reason).into())
            }
            (By::Day, None) => Ok(History::Days(
                app.read(async |tx| usage::history_by_day(tx, &tenant, &metric, span).await).await?,
            )),
            (By::Key, limit) => {
                let limit = limit.unwrap_or(ENTRIES);
                let entries =
                    app.read(async |tx| usage::history_by_key(tx, &tenant, &metric, span, limit).await);
                Ok(History::Entries(entries.await?))
            }
        }
    }
}

impl Report for History {
    fn view(&self) -> View {
        match self {
            Self::Days(history) => View::List {
                headers: vec!["DAY", "AMOUNT", "EVENTS"],
                rows: history
                    .days
                    .iter()
                    .map(|day| {
                        vec![day.day.to_string(), history.unit.format(day.amount), day.events.to_string()]
                    })
                    .collect(),
            },
            Self::Entries(history) => View::List {
                headers: vec!["KEY", "AMOUNT", "OCCURRED", "RECORDED", "USED"],
                rows: history
                    .entries
                    .iter()
                    .map(|entry| {
                        vec![
                            entry.key.clone().unwrap_or_default(),
                            history.unit.format(entry.amount),
                            crate::cli::time(entry.occurred_at),
                            crate::cli::time(entry.recorded_at),
                            history.unit.format(entry.used),
                        ]
                    })
                    .collect(),
            },
        }
    }

    fn ids(&self) -> Vec<String> {
        match self {
            Self::Days(history) => history.days.iter().map(|day| day.day.to_string()).collect(),
            Self::Entries(history) => history.entries.iter().filter_map(|entry| entry.key.clone()).collect(),
        }
    }

    fn notes(&self) -> Vec<String> {
        match self {
            Self::Days(history) => {
                let amounts: Vec<i64> = history.days.iter().map(|day| day.amount).collect();
                let most = amounts.iter().copied().max().unwrap_or(0);
                vec![format!(
                    "{} of tenant {}: {} at most {} a day",
                    history.metric,
                    history.tenant,
                    sparkline(&amounts),
                    history.unit.format(most)
                )]
            }
            Self::Entries(history) => {
                let mut notes = Vec::new();
                if history.metered {
                    notes.push("metered usage has no entries by key: `--by day` shows it".to_owned());
                }
                if history.more {
                    notes.push(format!(
                        "only the newest {} entries; --limit shows more, --since and --until others",
                        history.entries.len()
                    ));
                }
                notes
            }
        }
    }
}
