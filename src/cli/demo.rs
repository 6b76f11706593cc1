//! `tenantctl demo`: the whole main job on a throw-away server, each step checked.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use tenancy::config::{Setting, Source, Target};
use tenancy::db::{self, Session};
use tenancy::plan::EnvironmentLimits;
use tenancy::rls::report::{self, Severity};
use tenancy::rls::setup::{self, Setup};
use tenancy::rls::verify::{self, Options};
use tenancy::tenant::{self, NewTenant, Slug, TenantRef};
use tenancy::usage::{self, Decision, Track, Tracked};
use tenancy::user::{self, NewMembership, Role};
use tenancy::{ErrorKind, Result};

use super::app::App;
use crate::output::{Printable, Report, View};

/// The platform of the demonstration.
const SCHEMA: &str = include_str!("../../examples/hackops/schema.sql");

/// A mistake that somebody might make in a hurry: a policy for one query that opens the table, and the floor that would
/// have held taken out of its way.
const PLANT: &str = "DROP POLICY tenant_floor ON public.submissions;
CREATE POLICY support_desk ON public.submissions FOR SELECT USING (true)";

/// What the operator does about it, before `rls setup` puts the floor back.
const MEND: &str = "DROP POLICY support_desk ON public.submissions";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    result: String,
}

#[derive(Serialize)]
struct Demo {
    steps: Vec<Step>,
    duration_ms: u64,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        let began = Instant::now();
        app.config.target = Some(Setting { value: Target::Ephemeral, source: Source::Flag });
        let bar = app.notes.progress("demo");
        let mut steps = Vec::new();
        let mut done = |step, result| {
            steps.push(Step { step, result });
            bar.set(steps.len() as u64, 9);
        };

        let mut session = app.session().await?;
        let facts = db::facts(session.connection()).await?;
        done("server", format!("PostgreSQL {}, private, removed at the end", facts.server_version));
        done("schema", load_schema(&mut session).await.context("loading the schema")?);
        done("tenants", make_tenants(&mut session).await.context("making tenants")?);
        done("usage", use_up(&mut session).await.context("tracking usage")?);
        done("rls setup", protect(&mut session).await.context("protecting the tables")?);
        let connect = app.options()?;
        done("rls verify", prove(&connect).await.context("verifying")?);
        sqlx::raw_sql(PLANT).execute(session.connection()).await?;
        done("a leak", "planted: submissions has a policy USING (true) and no floor".to_owned());
        done("rls verify", catch(&connect).await.context("looking for the leak")?);
        sqlx::raw_sql(MEND).execute(session.connection()).await?;
        let mended = protect(&mut session).await.context("mending")?;
        done("mended", format!("{mended}; {}", prove(&connect).await.context("verifying again")?));
        drop(bar);
        let duration_ms = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        Ok(Box::new(Demo { steps, duration_ms }))
    }
}

async fn load_schema(session: &mut Session) -> anyhow::Result<String> {
    // psql's own commands are not SQL.
    let sql: &'static str = SCHEMA;
    let lines = sql.lines().filter(|line| !line.starts_with('\\'));
    let script = lines.collect::<Vec<_>>().join("\n");
    for round in ["first", "second"] {
        db::run_script(session.connection(), &script)
            .await
            .with_context(|| format!("for the {round} time"))?;
    }
    let tables = script.matches("CREATE TABLE IF NOT EXISTS").count();
    Ok(format!("HackOps: {tables} tables, loaded twice without a change"))
}

async fn make_tenants(session: &mut Session) -> Result<String> {
    let none = EnvironmentLimits::default();
    let mut transaction = session.begin_as_owner().await?;
    for (name, slug, plan, owner) in [
        ("Acme University", "acme-university", "professional", "ada@acme.edu"),
        ("Tech Corp", "tech-corp", "free", "tim@techcorp.com"),
    ] {
        let new = NewTenant {
            name: name.into(),
            slug: slug.parse::<Slug>()?,
            plan: Some(plan.into()),
            contact_email: None,
            organization_type: None,
            website_url: None,
            billing_day: None,
        };
        let tenant = tenant::create(&mut transaction, &new, false).await?.value;
        let owner =
            NewMembership { user: owner.parse()?, role: Role::Owner, permissions: serde_json::Map::new() };
        user::add(&mut transaction, tenant.id, &owner, false, &none).await?;
        let admin = NewMembership {
            user: format!("grace@{slug}.example").parse()?,
            role: Role::Admin,
            permissions: serde_json::Map::from_iter([("can_manage_events".to_owned(), true.into())]),
        };
        user::add(&mut transaction, tenant.id, &admin, false, &none).await?;
    }
    transaction.commit().await?;
    Ok("acme-university (professional) and tech-corp (free), each with an owner and an admin".into())
}

async fn use_up(session: &mut Session) -> anyhow::Result<String> {
    let first = track(session, "spring-hackathon").await?;
    ensure!(
        first.outcome == Decision::Accepted && first.used == 1,
        "the first event was not accepted: {first:?}"
    );
    let replay = track(session, "spring-hackathon").await?;
    ensure!(
        replay.outcome == Decision::Duplicate && replay.used == 1,
        "the replay counted again: {replay:?}"
    );
    match track(session, "autumn-hackathon").await {
        Err(error) if error.kind() == ErrorKind::LimitExceeded => {
            Ok("tech-corp: event 1 of 1 accepted, its replay not counted again, event 2 refused".into())
        }
        other => anyhow::bail!("the second event was not refused: {other:?}"),
    }
}

async fn track(session: &mut Session, key: &str) -> Result<Tracked> {
    let mut transaction = session.begin_as_owner().await?;
    let track = Track { metric: "events".into(), amount: "1".into(), key: Some(key.into()), at: None };
    let tenant = TenantRef::Slug("tech-corp".into());
    let tracked = usage::track(&mut transaction, &tenant, &track, &EnvironmentLimits::default()).await?;
    transaction.commit().await?;
    Ok(tracked)
}

async fn protect(session: &mut Session) -> Result<String> {
    let mut transaction = session.begin().await?;
    let outcome = setup::setup(&mut transaction, &Setup::default()).await?;
    transaction.commit().await?;
    let statements: usize = outcome.tables.iter().map(|table| table.statements.len()).sum();
    Ok(format!("{} tables, statements run: {statements}", outcome.tables.len()))
}

async fn attack(connect: &PgConnectOptions) -> Result<report::Report> {
    let options = Options { strict: true, ..Options::default() };
    verify::verify(connect, &options).await
}

async fn prove(connect: &PgConnectOptions) -> anyhow::Result<String> {
    let report = attack(connect).await?;
    ensure!(report.summary.passed, "{}", report.text(false));
    Ok(format!("passed: {} attacks, none got through", report.attempts.tried))
}

async fn catch(connect: &PgConnectOptions) -> anyhow::Result<String> {
    let report = attack(connect).await?;
    let found = report
        .findings
        .iter()
        .find(|finding| {
            finding.severity == Severity::Error
                && finding.source == report::Source::Probe
                && finding.object == "public.submissions"
        })
        .with_context(|| format!("the leak was not found:\n{}", report.text(false)))?;
    Ok(format!(
        "FAILED as it should: {} on {}, by {} of {} attacks:\n{}",
        found.check, found.object, report.attempts.succeeded, report.attempts.tried, found.message
    ))
}

impl Report for Demo {
    fn view(&self) -> View {
        let mut text = String::new();
        for step in &self.steps {
            text.push_str(&format!(
                "ok  {:<11} {}\n",
                step.step,
                step.result.replace('\n', "\n                ")
            ));
        }
        text.push_str(&format!("\nAll of it behaved, in {:.1} s.\n", self.duration_ms as f64 / 1000.0));
        View::Text(text)
    }

    fn ids(&self) -> Vec<String> {
        self.steps.iter().map(|step| step.step.to_owned()).collect()
    }
}
