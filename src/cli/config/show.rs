//! `tenantctl config show`.

use std::fmt::Display;

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::config::{Config, Setting, Source, Target};

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

#[derive(Serialize)]
pub(crate) struct Row {
    key: &'static str,
    value: Option<String>,
    source: String,
}

#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Show(Vec<Row>);

fn row<T>(key: &'static str, setting: &Setting<T>, value: impl FnOnce(&T) -> Option<String>) -> Row {
    Row { key, value: value(&setting.value), source: setting.source.to_string() }
}

fn plain<T: Display>(key: &'static str, setting: &Setting<T>) -> Row {
    row(key, setting, |value| Some(value.to_string()))
}

/// A URL is never shown, since it may hold a password.
fn target(config: &Config) -> Row {
    match &config.target {
        None => Row { key: "database", value: None, source: Source::Default.to_string() },
        Some(setting) => row("database", setting, |target| {
            Some(
                match target {
                    Target::Url(_) => "url",
                    Target::Libpq => "libpq variables",
                    Target::Embedded => "embedded",
                    Target::Ephemeral => "ephemeral",
                }
                .to_owned(),
            )
        }),
    }
}

impl Args {
    pub(crate) fn run(self, app: &App) -> Show {
        let config = &app.config;
        let time = |value: &std::time::Duration| Some(humantime::format_duration(*value).to_string());
        Show(vec![
            target(config),
            match &config.profile {
                Some(profile) => plain("profile", profile),
                None => Row { key: "profile", value: None, source: Source::Default.to_string() },
            },
            row("pg_bin", &config.pg_bin, |v| v.as_ref().map(|path| path.display().to_string())),
            row("pg_version", &config.pg_version, |v| v.map(|major| major.to_string())),
            row("data_dir", &config.data_dir, |v| v.as_ref().map(|path| path.display().to_string())),
            plain("role_prefix", &config.role_prefix),
            row("base_domain", &config.base_domain, Clone::clone),
            plain("grace_days", &config.grace_days),
            row("statement_timeout", &config.statement_timeout, time),
            row("lock_timeout", &config.lock_timeout, time),
            plain("db_pool_size", &config.db_pool_size),
            plain("db_max_overflow", &config.db_max_overflow),
            plain("db_pool_recycle", &config.db_pool_recycle),
            plain("enable_tenant_isolation", &config.enable_tenant_isolation),
            plain("system_admin_bypass", &config.system_admin_bypass),
        ])
    }
}

impl Report for Show {
    fn view(&self) -> View {
        View::List {
            headers: vec!["KEY", "VALUE", "SOURCE"],
            rows: self
                .0
                .iter()
                .map(|row| {
                    vec![row.key.to_owned(), row.value.clone().unwrap_or_default(), row.source.clone()]
                })
                .collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.0.iter().map(|row| row.key.to_owned()).collect()
    }
}
