//! The command line: parses it, runs one verb, prints what it returned, and turns failures into exit codes.

mod app;
mod completions;
mod config;
mod db;
mod demo;
mod existing;
mod exit;
mod help;
mod limit;
mod metric;
mod plan;
mod rls;
mod tenant;
mod terminal;
mod usage;
mod user;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use secrecy::SecretString;
use tenancy::config::{Config, Flags, Inputs, user_file};

use crate::output::{Format, Notes, Output, Printable};
use app::App;

/// Administer tenants, plans, usage and isolation of a platform on PostgreSQL, and prove the isolation.
#[derive(Debug, Parser)]
#[command(name = "tenantctl", version, propagate_version = true, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, after_help = "`tenantctl help exit-codes` lists the exit codes.")]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Format of the output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Print identifiers only, one a line
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Database, as postgres://USER@HOST:PORT/DATABASE (TENANTCTL_URL, DATABASE_URL)
    #[arg(long, global = true, value_name = "URL", value_parser = parse_secret)]
    url: Option<SecretString>,
    /// Database of a profile in the configuration (TENANTCTL_PROFILE)
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "url")]
    profile: Option<String>,
    /// This user's private server, started on demand (TENANTCTL_EMBEDDED=1)
    #[arg(long, global = true, conflicts_with_all = ["url", "profile"])]
    embedded: bool,
    /// A private server for this one command, removed at its end
    #[arg(long, global = true, conflicts_with_all = ["url", "profile", "embedded"])]
    ephemeral: bool,
    /// Configuration file [default: tenantctl.yaml here or in a directory above]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Longest that a statement may run, as 30s or 5min; 0 for no limit
    #[arg(long, global = true, value_name = "TIME")]
    statement_timeout: Option<String>,
    /// Longest that a statement may wait for a lock [default: 10s]
    #[arg(long, global = true, value_name = "TIME")]
    lock_timeout: Option<String>,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t = clap::ColorChoice::Auto, value_name = "WHEN")]
    color: clap::ColorChoice,
    /// Never ask for anything
    #[arg(long, global = true)]
    no_input: bool,
    /// Log what happens to standard error; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn parse_secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create, list and change tenants
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// Add, list and change the members of tenants
    #[command(subcommand)]
    User(user::Verb),
    /// Look at the plans, and change them
    #[command(subcommand)]
    Plan(plan::Verb),
    /// Look at what is counted
    #[command(subcommand)]
    Metric(metric::Verb),
    /// Give tenants limits of their own, and see why a limit is what it is
    #[command(subcommand)]
    Limit(limit::Verb),
    /// Record usage against plan limits, and look at it
    #[command(subcommand)]
    Usage(usage::Verb),
    /// Put tables under row-level security, and prove that it holds
    #[command(subcommand)]
    Rls(rls::Verb),
    /// Migrate the control plane; start and stop the private server
    #[command(subcommand)]
    Db(db::Verb),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::Verb),
    /// Run the whole main job on a throw-away server
    Demo(demo::Args),
    /// Print the completion script of a shell
    Completions(completions::Args),
    /// Explain a command or a topic
    Help(help::Args),
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    if std::env::var_os("COMPLETE").is_some() {
        clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error, &arguments),
    };
    let global = &cli.global;
    let notes = Notes {
        quiet: global.quiet,
        colour: colour(global.color, &io::stderr()),
        json: matches!(global.output, Format::Json | Format::Ndjson),
    };
    start_logging(global.verbose);
    let terminal = terminal::Terminal::remember();
    let outcome = load(global).map_err(anyhow::Error::from).and_then(|config| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let colour = colour(global.color, &io::stdout());
        let output = Output { format: global.output, quiet: global.quiet, colour };
        let mut app = App::new(config, output, notes, !global.no_input);
        let result = runtime.block_on(async {
            tokio::select! {
                // In this order, so that the handlers are in place before anything can be interrupted.
                biased;
                () = interrupted() => Err(exit::Interrupted.into()),
                result = cli.command.run(&mut app) => result,
            }
        });
        // Whatever the interrupted verb left running ends here: its connection is closed, which rolls back. A prompt
        // that nobody will answer is not waited for.
        runtime.shutdown_background();
        // A verb may have another say in the format.
        let output = app.output;
        drop(app);
        result.map(|report| (report, output))
    });
    match outcome {
        Ok((report, output)) => exit::finish(report, &output, &notes),
        Err(error) => {
            if exit::is_interruption(&error) {
                terminal.restore();
            }
            exit::fail(&error, &notes)
        }
    }
}

fn load(global: &Global) -> tenancy::Result<Config> {
    Config::load(Inputs {
        flags: Flags {
            config: global.config.clone(),
            url: global.url.clone(),
            profile: global.profile.clone(),
            embedded: global.embedded,
            ephemeral: global.ephemeral,
            statement_timeout: global.statement_timeout.clone(),
            lock_timeout: global.lock_timeout.clone(),
        },
        variable: &|name| std::env::var(name).ok(),
        directory: std::env::current_dir().unwrap_or_default(),
        user_file: user_file(),
    })
}

fn colour(choice: clap::ColorChoice, stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    match choice {
        clap::ColorChoice::Always => true,
        clap::ColorChoice::Never => false,
        clap::ColorChoice::Auto if set("NO_COLOR") => false,
        clap::ColorChoice::Auto if std::env::var("CLICOLOR_FORCE").is_ok_and(|v| v != "0") => true,
        clap::ColorChoice::Auto => {
            stream.is_terminal() && std::env::var("CLICOLOR").map_or(true, |v| v != "0")
        }
    }
}

/// Never from the module that reads URLs: what it warns of holds parts of them.
fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn,sqlx_postgres::options=off",
        1 => "tenancy=debug,tenantctl=debug,sqlx=info,warn,sqlx_postgres::options=off",
        _ => "debug,sqlx_postgres::options=off",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("TENANTCTL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hang_up)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}

impl Command {
    async fn run(self, app: &mut App) -> anyhow::Result<Box<dyn Printable>> {
        match self {
            Self::Tenant(verb) => verb.run(app).await,
            Self::User(verb) => verb.run(app).await,
            Self::Plan(verb) => verb.run(app).await,
            Self::Metric(verb) => verb.run(app).await,
            Self::Limit(verb) => verb.run(app).await,
            Self::Usage(verb) => verb.run(app).await,
            Self::Rls(verb) => verb.run(app).await,
            Self::Db(verb) => verb.run(app).await,
            Self::Config(verb) => verb.run(app),
            Self::Demo(args) => args.run(app).await,
            Self::Completions(args) => args.run(),
            Self::Help(args) => args.run(),
        }
    }
}

/// A time for people and pipes: RFC 3339, in UTC, to the second.
fn time(time: time::OffsetDateTime) -> String {
    let utc = time.to_offset(time::UtcOffset::UTC);
    utc.replace_nanosecond(0)
        .unwrap_or(utc)
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}
