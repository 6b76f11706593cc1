//! `tenantctl usage reconcile`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::usage::reconcile::{self, Drift, Findings, Incomparable, Scope};

use crate::cli::app::{App, DryRun};
use crate::cli::completions::tenant_slugs;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Only of this tenant
    #[arg(value_name = "TENANT", add = clap_complete::ArgValueCompleter::new(tenant_slugs))]
    tenant: Option<String>,
    /// Only of this metric
    #[arg(long)]
    metric: Option<String>,
    /// Say which counters do not hold what they should or cannot be compared, and fail if there are any [default]
    #[arg(long, conflicts_with = "repair")]
    detect: bool,
    /// Set them to what they should hold
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Reconciled {
    drifts: Vec<Drift>,
    #[serde(skip)]
    incomparable: Vec<Incomparable>,
    #[serde(skip)]
    repair: Option<DryRun>,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Reconciled> {
        let tenant = self.tenant.map(|tenant| app.tenant(&tenant)).transpose()?;
        let scope = Scope { tenant, metric: self.metric };
        let mut session = app.session().await?;
        // The platform's tables are read as the connecting role.
        let mut transaction = session.begin_checked().await?;
        let Findings { drifts, incomparable } = if self.repair {
            reconcile::repair(&mut transaction, &scope).await?
        } else {
            reconcile::detect(&mut transaction, &scope).await?
        };
        if self.repair && !self.dry_run.dry_run {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(Reconciled { drifts, incomparable, repair: self.repair.then_some(self.dry_run) })
    }
}

impl Report for Reconciled {
    fn view(&self) -> View {
        View::List {
            headers: vec!["TENANT", "METRIC", "SINCE", "COUNTED", "ACTUAL", "DRIFT", "BASIS"],
            rows: self
                .drifts
                .iter()
                .map(|drift| {
                    vec![
                        drift.tenant.clone(),
                        drift.metric.clone(),
                        drift.period_start.map_or_else(String::new, crate::cli::time),
                        drift.unit.format(drift.counted),
                        drift.unit.format(drift.actual),
                        format!("{:+}", drift.drift),
                        drift.basis.as_str().to_owned(),
                    ]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.drifts.iter().map(|drift| format!("{} {}", drift.tenant, drift.metric)).collect()
    }

    fn notes(&self) -> Vec<String> {
        let count = self.drifts.len();
        let mut notes = vec![match self.repair {
            _ if count == 0 && self.incomparable.is_empty() => {
                "every counter holds what it should".to_owned()
            }
            _ if count == 0 => "every counter that can be compared holds what it should".to_owned(),
            Some(dry_run) => format!("{} {count} counters", dry_run.word("repaired", "repair")),
            None => format!("{count} counters drifted: `tenantctl usage reconcile --repair` sets them right"),
        }];
        notes.extend(self.incomparable.iter().map(|one| {
            let table = one.table.as_ref().map_or_else(String::new, |table| format!(" from {table}"));
            format!("not comparable: {} counters of {}{table}: {}", one.counters, one.metric, one.reason)
        }));
        notes
    }

    fn check_failed(&self) -> bool {
        // A repair sets drift right, and leaves as it is what it cannot compare.
        (self.repair.is_none() && !self.drifts.is_empty()) || self.incomparable.iter().any(|one| one.broken)
    }
}
