//! What exact limits cost: usage from a file beside COPY, many callers beside SELECT … FOR UPDATE, single calls beside the
//! bare guarded UPSERT, a meter beside none, and all of it again on a ledger that grows. fsync is on.
//!
//! `cargo bench --bench usage -- ingest recorder track meter ledger` for some of the parts; without a word, all.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tenancy::db::embedded::{Ephemeral, Request};
use tenancy::db::{self, Session};
use tenancy::plan::EnvironmentLimits;
use tenancy::tenant::TenantId;
use tenancy::usage::ingest::{Input, Options, Summary, ingest};
use tenancy::usage::{RecorderOptions, Usage, UsageRecorder, Verdict};
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Events of the file.
const EVENTS: u32 = 1_000_000;
/// Whose they are, in four metrics each.
const TENANTS: u32 = 1_000;
/// Callers at once, and the connections that the peer may use for them.
const CALLERS: u32 = 256;
const CONNECTIONS: u32 = 64;
/// How long callers call.
const CALLING: Duration = Duration::from_secs(10);
/// Rounds of what is compared, one of each in turn; the median counts.
const ROUNDS: usize = 3;
/// The limit of what a ledger can do: its columns that a file has, and the index of its key.
const PEER: &str = "CREATE TABLE peer (tenant_id uuid NOT NULL, metric text NOT NULL, amount bigint NOT NULL,
                        key text COLLATE \"C\" NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (tenant_id, key))";
/// Microseconds that a commit waits before it is written: none, and so many that it takes the 3.8 ms of a slower disk.
const DELAYS: [u32; 2] = [0, 3500];

fn main() -> Outcome<()> {
    let bin_dir = std::env::var_os("TENANTCTL_PG_BIN").map(Into::into);
    let server = Ephemeral::start_durable(&Request { bin_dir, major: None })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let wanted = |part: &str| {
            let mut parts = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
            parts.peek().is_none() || parts.any(|argument| argument == part)
        };
        if wanted("ingest") {
            from_file(&server).await?;
        }
        if wanted("recorder") {
            recorder(&server).await?;
        }
        if wanted("track") {
            track(&server).await?;
        }
        if wanted("meter") {
            meter(&server).await?;
        }
        if wanted("ledger") {
            ledger(&server).await?;
        }
        Ok(())
    })
}

fn say(line: &str) -> Outcome<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// Statements, each in a transaction of its own.
async fn run(connection: &mut PgConnection, sql: &str) -> Outcome<()> {
    for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await?;
    }
    Ok(())
}

/// A migrated database with tenants and four metrics, all limited, none of them near its limit.
async fn database(server: &Ephemeral, name: &str) -> Outcome<PgConnectOptions> {
    run(&mut server.options().connect().await?, &format!("CREATE DATABASE {name}")).await?;
    let options = server.options().database(name);
    let mut session = Session::new(options.connect().await?);
    let mut transaction = session.begin().await?;
    db::migrate(&mut transaction, "tenancy").await?;
    transaction.commit().await?;
    run(
        session.connection(),
        &format!(
            "INSERT INTO tenancy.metrics (key, name, unit, kind, reset) VALUES ('calls', 'Calls', 'count', 'counter', 'monthly');
             INSERT INTO tenancy.tenants (id, slug, name, plan, status)
             SELECT lpad(to_hex(n), 32, '0')::uuid, 't' || n, 'T' || n, 'enterprise', 'active'
               FROM generate_series(1, {TENANTS}) n;
             INSERT INTO tenancy.plan_limits VALUES ('enterprise', 'calls', 0);
             UPDATE tenancy.plan_limits SET limit_value = 1000000000000 WHERE plan = 'enterprise';
             VACUUM ANALYZE"
        ),
    )
    .await?;
    Ok(options)
}

/// Twelve hexadecimal digits that look like nothing in particular, different for each number.
fn scattered(n: u32) -> String {
    let mut x = u64::from(n).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}{n:08x}", x ^ (x >> 32))
}

fn write_file(path: &Path) -> Outcome<()> {
    let now = time::OffsetDateTime::now_utc() - time::Duration::days(5);
    let mut text = String::from("tenant,metric,amount,key,at\n");
    for n in 0..EVENTS {
        let tenant = Uuid::from_u128(u128::from(1 + n.wrapping_mul(7919) % TENANTS));
        let metric = ["events", "participants", "storage", "calls"][(n / 3 % 4) as usize];
        let at = now + time::Duration::milliseconds(i64::from(n) * 300);
        let at = at.format(&time::format_description::well_known::Rfc3339)?;
        writeln!(text, "{tenant},{metric},{},key-{},{at}", 1 + n % 3, scattered(n))?;
    }
    write_readable(path, &text)
}

/// A file that the server reads, too.
fn write_readable(path: &Path, text: &str) -> Outcome<()> {
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    Ok(())
}

/// What COPY of a file into [`PEER`] takes.
async fn copy(session: &mut Session, file: &Path) -> Outcome<Duration> {
    let start = Instant::now();
    run(session.connection(), &format!("COPY peer FROM '{}' (FORMAT csv, HEADER)", file.display())).await?;
    Ok(start.elapsed())
}

async fn load(session: &mut Session, file: &Path) -> Outcome<(Duration, Summary)> {
    let options =
        Options { format: None, batch: None, window: Duration::from_secs(35 * 86_400), dry_run: false };
    let start = Instant::now();
    let summary = ingest(
        session,
        &Input::File(file.to_owned()),
        &options,
        &EnvironmentLimits::default(),
        |_, _| {},
        |_| Ok(()),
    )
    .await?;
    Ok((start.elapsed(), summary))
}

async fn from_file(server: &Ephemeral) -> Outcome<()> {
    let options = database(server, "from_file").await?;
    let file = std::env::temp_dir().join(format!("usage-{}.csv", std::process::id()));
    write_file(&file)?;
    let mut session = Session::new(options.connect().await?);
    run(session.connection(), PEER).await?;
    say(&format!("## ingest: {EVENTS} events of {TENANTS} tenants in 4 metrics, keys and limits on"))?;
    say("| round | COPY | ingest | of COPY's speed | replay | replayed |")?;
    say("| --- | --- | --- | --- | --- | --- |")?;
    for round in 1..=ROUNDS {
        run(
            session.connection(),
            "TRUNCATE peer, tenancy.usage_events; UPDATE tenancy.usage_counters SET used = 0; VACUUM ANALYZE tenancy.usage_counters; CHECKPOINT",
        )
        .await?;
        let copy = copy(&mut session, &file).await?;
        run(session.connection(), "CHECKPOINT").await?;
        let (first, summary) = load(&mut session, &file).await?;
        assert_eq!(summary.accepted, u64::from(EVENTS), "{summary:?}");
        run(session.connection(), "CHECKPOINT").await?;
        let (again, summary) = load(&mut session, &file).await?;
        assert_eq!(summary.duplicate, u64::from(EVENTS), "{summary:?}");
        let rate = |time: Duration| format!("{:.0}/s", f64::from(EVENTS) / time.as_secs_f64());
        say(&format!(
            "| {round} | {} | {} | {:.2} | {} | {again:.1?} |",
            rate(copy),
            rate(first),
            copy.as_secs_f64() / first.as_secs_f64(),
            rate(again)
        ))?;
    }
    std::fs::remove_file(file)?;
    Ok(())
}

async fn recorder(server: &Ephemeral) -> Outcome<()> {
    let options = database(server, "recorder").await?;
    let tenant = TenantId(Uuid::from_u128(1));
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_with(options.clone()).await?;
    say(&format!("## recorder: {CALLERS} callers of one tenant and metric, every answer committed"))?;
    say("| who | decisions/s | p50 | p99 |")?;
    say("| --- | --- | --- | --- |")?;
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let recorder = Arc::new(UsageRecorder::start(pool.clone(), RecorderOptions::default()));
        let shared = Arc::clone(&recorder);
        let ours = calls(move || {
            let recorder = Arc::clone(&shared);
            async move {
                let usage = Usage { tenant, metric: "events".into(), amount: 1, key: None, at: None };
                let answer = recorder.track(usage).await?;
                assert_eq!(answer.verdict, Verdict::Accepted);
                Ok(())
            }
        })
        .await?;
        recorder.close().await;
        told("UsageRecorder", &ours)?;
        let shared = pool.clone();
        let theirs = calls(move || {
            let pool = shared.clone();
            async move {
                let mut transaction = pool.begin().await?;
                let (used, limit): (i64, i64) = sqlx::query_as(
                    "SELECT used, limit_value FROM tenancy.usage_counters
                      WHERE tenant_id = $1 AND metric = 'events' AND period_start = '-infinity' FOR UPDATE",
                )
                .bind(tenant.0)
                .fetch_one(&mut *transaction)
                .await?;
                assert!(used < limit);
                sqlx::query(
                    "UPDATE tenancy.usage_counters SET used = used + 1
                      WHERE tenant_id = $1 AND metric = 'events' AND period_start = '-infinity'",
                )
                .bind(tenant.0)
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await?;
                Ok(())
            }
        })
        .await?;
        told(&format!("SELECT … FOR UPDATE, {CONNECTIONS} connections"), &theirs)?;
        rates.push(ours.len() as f64 / theirs.len() as f64);
    }
    rates.sort_by(f64::total_cmp);
    say(&format!("\n{:.1} times as many (median of {ROUNDS})", rates[ROUNDS / 2]))
}

fn told(who: &str, latencies: &[Duration]) -> Outcome<()> {
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let rate = latencies.len() as f64 / CALLING.as_secs_f64();
    say(&format!("| {who} | {rate:.0} | {:.1?} | {:.1?} |", at(0.5), at(0.99)))
}

/// How long each call took, of callers who call again and again, shortest first. A second's calls go before, unseen.
async fn calls<F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static>(
    call: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> Outcome<Vec<Duration>> {
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + CALLING;
    let local = tokio::task::LocalSet::new();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let call = call.clone();
            local.spawn_local(async move {
                let mut latencies = Vec::new();
                loop {
                    let start = Instant::now();
                    call().await?;
                    let now = Instant::now();
                    if now > end {
                        return Ok::<_, Box<dyn Error + Send + Sync>>(latencies);
                    }
                    if start > begin {
                        latencies.push(now - start);
                    }
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    local
        .run_until(async {
            for caller in callers {
                all.extend(caller.await?.map_err(|error| error.to_string())?);
            }
            Ok::<_, Box<dyn Error>>(())
        })
        .await?;
    all.sort();
    Ok(all)
}

/// Beside the UPSERT alone, and beside what has to be written at the least so that a replay is harmless: its ledger row, too.
async fn track(server: &Ephemeral) -> Outcome<()> {
    let options = database(server, "track").await?;
    run(
        &mut options.connect().await?,
        "CREATE TABLE bare (tenant_id uuid, metric text, period_start timestamptz, used bigint NOT NULL, limit_value bigint NOT NULL,
                            PRIMARY KEY (tenant_id, metric, period_start));
         CREATE TABLE bare_ledger (tenant_id uuid, key text COLLATE \"C\", metric text NOT NULL, amount bigint NOT NULL,
                            recorded_at timestamptz NOT NULL DEFAULT now(), used bigint NOT NULL, PRIMARY KEY (tenant_id, key))",
    )
    .await?;
    let dir = tempfile::tempdir()?;
    let url = server.url().replace("/tenancy?", "/track?");
    say("## track_usage, a call a transaction, beside the bare guarded UPSERT")?;
    say(
        "| commit waits | counters | clients | UPSERT/s | with a ledger row/s | track_usage/s | of UPSERT | of that with a ledger row |",
    )?;
    say("| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for (delay, counters) in DELAYS.into_iter().flat_map(|delay| [(delay, 1), (delay, TENANTS)]) {
        let tenant = "lpad(to_hex(:n::int), 32, '0')::uuid";
        let upsert = format!(
            "INSERT INTO bare VALUES ({tenant}, 'events', '-infinity', 1, 1000000000000)
             ON CONFLICT (tenant_id, metric, period_start) DO UPDATE SET used = bare.used + 1 WHERE bare.used + 1 <= bare.limit_value RETURNING used"
        );
        let scripts = [
            ("upsert", upsert.clone()),
            (
                "ledger",
                format!(
                    "WITH c AS ({upsert}) INSERT INTO bare_ledger SELECT {tenant}, gen_random_uuid()::text, 'events', 1, now(), c.used FROM c RETURNING used"
                ),
            ),
            (
                "track",
                format!(
                    "SELECT * FROM tenancy.track_usage(set_config('app.current_tenant_id', ({tenant})::text, true)::uuid, 'events', 1, gen_random_uuid()::text)"
                ),
            ),
        ];
        for (name, sql) in &scripts {
            std::fs::write(dir.path().join(name), format!("\\set n random(1, {counters})\n{sql};\n"))?;
        }
        for clients in [1, 8, 32, 64] {
            let mut rates = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for ((name, _), rates) in scripts.iter().zip(&mut rates) {
                    rates.push(pgbench(&url, &dir.path().join(name), clients, delay)?);
                }
            }
            let [upsert, ledger, ours] = rates.map(|mut rates| {
                rates.sort_by(f64::total_cmp);
                rates[ROUNDS / 2]
            });
            say(&format!(
                "| {delay} µs | {counters} | {clients} | {upsert:.0} | {ledger:.0} | {ours:.0} | {:.2} | {:.2} |",
                ours / upsert,
                ours / ledger
            ))?;
        }
    }
    Ok(())
}

/// Ten thousand rows in one INSERT, into a table that is metered and into one like it that is not.
async fn meter(server: &Ephemeral) -> Outcome<()> {
    let options = database(server, "meter").await?;
    let mut session = Session::new(options.connect().await?);
    for table in ["bare", "metered"] {
        run(
            session.connection(),
            &format!(
                "CREATE TABLE {table} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid NOT NULL, name text NOT NULL,
                                       size_bytes bigint NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
                 CREATE INDEX ON {table} (tenant_id)"
            ),
        )
        .await?;
    }
    run(session.connection(), "SELECT tenancy.attach_meter('events', 'metered')").await?;
    say("## meter: an INSERT of 10,000 rows")?;
    say("| tenants of the rows | without | metered | ratio |")?;
    say("| --- | --- | --- | --- |")?;
    for tenants in [1, 100] {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..31 {
            for (table, times) in ["bare", "metered"].into_iter().zip(&mut times) {
                let start = Instant::now();
                run(
                    session.connection(),
                    &format!(
                        "INSERT INTO {table} (tenant_id, name, size_bytes)
                         SELECT lpad(to_hex(1 + n % {tenants}), 32, '0')::uuid, 'event number ' || n, n FROM generate_series(1, 10000) n"
                    ),
                )
                .await?;
                times.push(start.elapsed());
            }
        }
        let [without, metered] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        say(&format!(
            "| {tenants} | {without:.1?} | {metered:.1?} | {:.2} |",
            metered.as_secs_f64() / without.as_secs_f64()
        ))?;
    }
    Ok(())
}

/// Transactions a second, of statements that are prepared, as services do.
fn pgbench(url: &str, script: &Path, clients: u32, delay: u32) -> Outcome<f64> {
    let clients = clients.to_string();
    let output = Command::new("pgbench")
        .args(["-n", "-T", "4", "-c", &clients, "-j", "2", "-M", "prepared", "-f"])
        .arg(script)
        .arg(url)
        .env("PGOPTIONS", format!("-c commit_delay={delay} -c commit_siblings=0"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.ok_or_else(|| format!("pgbench said {text} {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Keys that begin with the time or a number go to the end of each tenant's part of the index, others go everywhere in it.
async fn ledger(server: &Ephemeral) -> Outcome<()> {
    let options = database(server, "ledger").await?;
    let mut session = Session::new(options.connect().await?);
    run(session.connection(), PEER).await?;
    say("## ledger: a file of new events, by how many the ledger has, beside COPY into as large a table")?;
    say("| keys | rows | COPY | a new event | of COPY's speed | an event again |")?;
    say("| --- | --- | --- | --- | --- | --- |")?;
    let file = std::env::temp_dir().join(format!("usage-{}.csv", std::process::id()));
    for ordered in [true, false] {
        run(session.connection(), "TRUNCATE peer, tenancy.usage_events").await?;
        let mut has = 0;
        for rows in [10_000_u32, 100_000, 1_000_000, 10_000_000] {
            while has < rows {
                let until = rows.min(has + 1_000_000);
                let key = if ordered { "lpad(n::text, 12, '0')" } else { "md5(n::text)" };
                let numbers = format!("generate_series({has} + 1, {until}) n");
                let tenant = format!("lpad(to_hex(1 + n % {TENANTS}), 32, '0')::uuid");
                run(
                    session.connection(),
                    &format!(
                        "INSERT INTO tenancy.usage_events (epoch, tenant_id, metric, amount, key, occurred_at, period_start, used)
                         SELECT 1, {tenant}, 'events', 1, {key}, now(), '-infinity', 1 FROM {numbers};
                         INSERT INTO peer SELECT {tenant}, 'events', 1, {key}, now() FROM {numbers}"
                    ),
                )
                .await?;
                has = until;
            }
            run(session.connection(), "VACUUM ANALYZE tenancy.usage_events; VACUUM ANALYZE peer").await?;
            let (mut copied, mut new, mut again) = (Vec::new(), Vec::new(), Vec::new());
            let at =
                time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339)?;
            for round in 0..ROUNDS {
                let line = |n: u32| {
                    let tenant = Uuid::from_u128(u128::from(1 + n % TENANTS));
                    let key = if ordered { format!("{n:012}") } else { format!("{}-{rows}", scattered(n)) };
                    format!("{tenant},events,1,{key},{at}\n")
                };
                let text: String = (has + 1..=has + 100_000).map(line).collect();
                has += 100_000;
                write_readable(&file, &format!("tenant,metric,amount,key,at\n{text}"))?;
                run(session.connection(), "CHECKPOINT").await?;
                copied.push(copy(&mut session, &file).await? / 100_000);
                run(session.connection(), "CHECKPOINT").await?;
                let (first, summary) = load(&mut session, &file).await?;
                assert_eq!(summary.accepted, 100_000, "{round}: {summary:?}");
                new.push(first / 100_000);
                let (second, summary) = load(&mut session, &file).await?;
                assert_eq!(summary.duplicate, 100_000, "{round}: {summary:?}");
                again.push(second / 100_000);
            }
            let [copied, new, again] = [copied, new, again].map(|mut times| {
                times.sort();
                times[ROUNDS / 2]
            });
            let keys = if ordered { "in order" } else { "in no order" };
            say(&format!(
                "| {keys} | {rows} | {copied:.1?} | {new:.1?} | {:.2} | {again:.1?} |",
                copied.as_secs_f64() / new.as_secs_f64()
            ))?;
        }
    }
    std::fs::remove_file(file)?;
    Ok(())
}
