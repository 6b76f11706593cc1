//! `tenantctl usage track`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::Error;
use tenancy::usage::{self, Decision, Track, Tracked, Unit};
use time::OffsetDateTime;

use crate::cli::app::{App, DryRun};
use crate::cli::tenant::TenantArg;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    tenant: TenantArg,
    /// What was used
    #[arg(long)]
    metric: String,
    /// How much: a whole number, a size such as 5GB where bytes are counted; negative to release
    #[arg(long, default_value = "1", allow_hyphen_values = true)]
    amount: String,
    /// Makes it safe to repeat: the same key again changes nothing and gets the first answer
    #[arg(long)]
    key: Option<String>,
    /// When it was used, as 2026-11-30T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = super::parse_time)]
    at: Option<OffsetDateTime>,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
pub(crate) struct Answer {
    #[serde(flatten)]
    tracked: Tracked,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(skip)]
    rejection: Option<anyhow::Error>,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Answer> {
        let tenant = app.tenant(&self.tenant.tenant)?;
        let environment = app.environment();
        let track = Track { metric: self.metric, amount: self.amount, key: self.key, at: self.at };
        let answer =
            app.write(self.dry_run, async |tx| usage::track(tx, &tenant, &track, &environment).await).await;
        let dry_run = self.dry_run.dry_run;
        match answer {
            Ok(tracked) => Ok(Answer { tracked, dry_run, rejection: None }),
            Err(error) => match rejected(&error) {
                Some(tracked) => Ok(Answer { tracked, dry_run, rejection: Some(error) }),
                None => Err(error),
            },
        }
    }
}

impl Answer {
    pub(super) fn of(tracked: Tracked, dry_run: DryRun) -> Self {
        Self { tracked, dry_run: dry_run.dry_run, rejection: None }
    }
}

/// The answer that a refusal by the limit is.
fn rejected(error: &anyhow::Error) -> Option<Tracked> {
    match error.downcast_ref()? {
        Error::LimitExceeded { tenant, metric, amount, used, limit, period_start, .. } => Some(Tracked {
            tenant: tenant.clone(),
            metric: metric.clone(),
            unit: Unit::Count,
            amount: *amount,
            used: *used,
            limit: Some(*limit),
            remaining: Some(limit.saturating_sub(*used).max(0)),
            period_start: *period_start,
            outcome: Decision::Rejected,
        }),
        _ => None,
    }
}

impl Report for Answer {
    fn view(&self) -> View {
        let tracked = &self.tracked;
        if tracked.outcome == Decision::Rejected {
            // The error says it all.
            return View::Text(String::new());
        }
        View::Record(vec![
            ("TENANT", tracked.tenant.clone()),
            ("METRIC", tracked.metric.clone()),
            ("AMOUNT", tracked.unit.format(tracked.amount)),
            ("USED", tracked.unit.format(tracked.used)),
            ("LIMIT", super::bound(tracked.unit, tracked.limit)),
            ("REMAINING", super::bound(tracked.unit, tracked.remaining)),
            (
                "OUTCOME",
                match tracked.outcome {
                    Decision::Accepted => "accepted",
                    Decision::OverSoftLimit => "over_soft_limit",
                    Decision::Duplicate => "duplicate",
                    Decision::Rejected => "rejected",
                }
                .to_owned(),
            ),
        ])
    }

    fn ids(&self) -> Vec<String> {
        match self.tracked.outcome {
            Decision::Rejected => Vec::new(),
            Decision::Accepted | Decision::OverSoftLimit | Decision::Duplicate => {
                vec![self.tracked.metric.clone()]
            }
        }
    }

    fn notes(&self) -> Vec<String> {
        let tracked = &self.tracked;
        let mut notes = Vec::new();
        if self.dry_run && matches!(tracked.outcome, Decision::Accepted | Decision::OverSoftLimit) {
            notes.push(format!("would track {} of {}", tracked.metric, tracked.tenant));
        }
        if tracked.outcome == Decision::OverSoftLimit {
            notes.push(format!(
                "tenant {} is over its soft limit of {}: {} used of {}",
                tracked.tenant,
                tracked.metric,
                tracked.unit.format(tracked.used),
                super::bound(tracked.unit, tracked.limit)
            ));
        }
        notes
    }

    fn failure(&mut self) -> Option<anyhow::Error> {
        self.rejection.take()
    }
}
