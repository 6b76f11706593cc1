//! What isolation costs: verifying 100, 1,000 and 3,000 protected tables, and reading through the policies of setup
//! beside the `WHERE tenant_id = …` that a careful hand would write.
//!
//! `SPLINTER=splinter.sql` names the single query file of supabase/splinter, which is timed on the same databases.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tenancy::db::embedded::{Ephemeral, Request};
use tenancy::db::{self, Session};
use tenancy::rls::{Options, verify};
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Numbers of tables; the time may grow no faster than they do.
const TABLES: [u32; 3] = [100, 1_000, 3_000];
/// Rounds of each query, one of each in turn; the median counts.
const ROUNDS: usize = 41;
/// How often a round asks: as a service does, whose connection has asked the same before.
const CALLS: u32 = 200;
/// What the policies are read through: rows, and the tenants that share them.
const ROWS: u32 = 2_000_000;
const TENANTS: u32 = 1_000;

fn main() -> Outcome<()> {
    let bin_dir = std::env::var_os("TENANTCTL_PG_BIN").map(Into::into);
    let server = Ephemeral::start_durable(&Request { bin_dir, major: None })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // `cargo bench --bench rls -- policies` for one of the two.
        let wanted = |part: &str| {
            let mut parts = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
            parts.peek().is_none() || parts.any(|argument| argument == part)
        };
        if wanted("verification") {
            verification(&server).await?;
        }
        if wanted("policies") {
            policies(&server).await?;
        }
        Ok(())
    })
}

/// A migrated database of that name.
async fn database(server: &Ephemeral, name: &str) -> Outcome<PgConnectOptions> {
    run(&mut server.options().connect().await?, &format!("CREATE DATABASE {name}")).await?;
    let options = server.options().database(name);
    let mut session = Session::new(options.connect().await?);
    let mut transaction = session.begin().await?;
    db::migrate(&mut transaction, "tenancy").await?;
    transaction.commit().await?;
    Ok(options)
}

async fn run(connection: &mut PgConnection, sql: &str) -> Outcome<()> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await?;
    Ok(())
}

async fn verification(server: &Ephemeral) -> Outcome<()> {
    let splinter = std::env::var("SPLINTER").ok().map(std::fs::read_to_string).transpose()?;
    if splinter.is_some() {
        // It asks what these roles may do.
        let roles = "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE service_role";
        run(&mut server.options().connect().await?, roles).await?;
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "| tables | catalogue | splinter | ratio | with all probes | a table |")?;
    writeln!(out, "| --- | --- | --- | --- | --- | --- |")?;
    for tables in TABLES {
        let options = database(server, &format!("verify_{tables}")).await?;
        let mut connection = options.connect().await?;
        for n in 0..tables {
            run(
                &mut connection,
                &format!(
                    "CREATE TABLE public.t{n} (tenant_id uuid NOT NULL REFERENCES tenancy.tenants,
                         id uuid NOT NULL DEFAULT gen_random_uuid(), title text NOT NULL, amount int,
                         PRIMARY KEY (tenant_id, id));
                     SELECT tenancy.protect('public.t{n}')"
                ),
            )
            .await?;
        }
        run(&mut connection, "ANALYZE").await?;
        let catalogue = Options { probes: false, ..Options::default() };
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..5 {
            ours.push(timed(async { Ok(verify(&options, &catalogue).await.map(drop)?) }).await?);
            if let Some(sql) = &splinter {
                // As ours, on a connection of its own, which knows none of the tables yet.
                theirs.push(timed(async { run(&mut options.connect().await?, sql).await }).await?);
            }
        }
        let probed = timed(async {
            let report = verify(&options, &Options::default()).await?;
            if report.passed(tenancy::rls::Severity::Warning, true) {
                Ok(())
            } else {
                Err(format!("the generated tables do not pass: {:?}", report.findings.first()).into())
            }
        })
        .await?;
        let (ours, theirs) = (median(ours), median(theirs));
        let beside = theirs.map_or_else(|| "–".into(), |theirs| format!("{theirs:.2?}"));
        let ratio = match (ours, theirs) {
            (Some(ours), Some(theirs)) => format!("{:.2}", ours.as_secs_f64() / theirs.as_secs_f64()),
            _ => "–".into(),
        };
        writeln!(
            out,
            "| {tables} | {:.2?} | {beside} | {ratio} | {probed:.1?} | {:.1?} |",
            ours.unwrap_or_default(),
            probed / tables
        )?;
    }
    Ok(())
}

async fn policies(server: &Ephemeral) -> Outcome<()> {
    let options = database(server, "policies").await?;
    let mut connection = options.connect().await?;
    let tenant = Uuid::from_u128(7);
    // The same rows twice: behind the policies, and in a table without any, where the query names the tenant. One role
    // on one connection reads both.
    run(
        &mut connection,
        &format!(
            "CREATE TABLE public.entries (tenant_id uuid NOT NULL, id int NOT NULL, amount int NOT NULL, note text,
                 PRIMARY KEY (tenant_id, id));
             INSERT INTO public.entries
                 SELECT lpad(to_hex(n % {TENANTS}), 32, '0')::uuid, n, n % 100, md5(n::text)
                   FROM generate_series(1, {ROWS}) n;
             CREATE TABLE public.open_entries (LIKE public.entries INCLUDING ALL);
             INSERT INTO public.open_entries SELECT * FROM public.entries;
             GRANT SELECT ON public.open_entries TO tenancy_app;
             SELECT tenancy.protect('public.entries')"
        ),
    )
    .await?;
    run(&mut connection, "VACUUM ANALYZE").await?;
    run(
        &mut connection,
        &format!("SET ROLE tenancy_app; SELECT set_config('app.current_tenant_id', '{tenant}', false)"),
    )
    .await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n| query | through the policies | by hand | ratio |\n| --- | --- | --- | --- |")?;
    for (name, query, id) in [
        ("point look-up", "SELECT amount::bigint FROM public.{entries} WHERE id = $1", Some(123_007)),
        ("aggregate over a tenant", "SELECT sum(amount) FROM public.{entries} WHERE $1::int IS NULL", None),
    ] {
        // Values are bound, as an application does: by hand, the tenant too.
        let through = query.replace("{entries}", "entries");
        let by_hand = query.replace("{entries}", "open_entries") + " AND tenant_id = $2";
        let mut rounds = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            rounds.0.push(answer(&mut connection, &through, id, None).await?);
            rounds.1.push(answer(&mut connection, &by_hand, id, Some(tenant)).await?);
        }
        let (Some((ours, a)), Some((theirs, b))) = (best(rounds.0), best(rounds.1)) else { continue };
        if a != b {
            return Err(format!("{name}: {a:?} through the policies, {b:?} by hand").into());
        }
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        writeln!(out, "| {name} | {ours:.1?} | {theirs:.1?} | {ratio:.2} |")?;
    }
    Ok(())
}

/// The time of one query, asked several times, and what it gave.
async fn answer(
    connection: &mut PgConnection,
    query: &str,
    id: Option<i32>,
    tenant: Option<Uuid>,
) -> Outcome<(Duration, Option<i64>)> {
    let mut value = None;
    let began = Instant::now();
    for _ in 0..CALLS {
        let mut ask = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).bind(id);
        if let Some(tenant) = tenant {
            ask = ask.bind(tenant);
        }
        value = ask.fetch_optional(&mut *connection).await?;
    }
    Ok((began.elapsed() / CALLS, value))
}

/// The median time, with the answer that every run gave.
fn best(mut runs: Vec<(Duration, Option<i64>)>) -> Option<(Duration, Option<i64>)> {
    runs.sort();
    runs.get(runs.len() / 2).copied()
}

async fn timed(work: impl Future<Output = Outcome<()>>) -> Outcome<Duration> {
    let began = Instant::now();
    work.await?;
    Ok(began.elapsed())
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}
