//! `tenantctl db status`.

use clap::Args as ClapArgs;
use serde::Serialize;
use tenancy::config::{Setting, Target};
use tenancy::db::{self, SchemaVersion};

use crate::cli::app::App;
use crate::output::{Report, View};

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {}

/// Where the database is. A private server has a URL to show, since there is no secret in it; of any other database
/// only host, port, name and user are shown.
#[derive(Serialize)]
pub(crate) struct Status {
    kind: &'static str,
    source: String,
    running: bool,
    url: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    user: Option<String>,
    server_version: Option<String>,
    schema_version: Option<i64>,
    required_schema_version: i64,
    pid: Option<u32>,
    data_dir: Option<String>,
    /// Whether the login may see the version: `schema_version` is null where there is none, and where it may not.
    schema_readable: Option<bool>,
    #[serde(skip)]
    failure: Option<anyhow::Error>,
}

impl Args {
    pub(crate) async fn run(self, app: &mut App) -> anyhow::Result<Status> {
        let Some(Setting { value: target, source }) = app.config.target.clone() else {
            return Err(tenancy::Error::NoDatabase.into());
        };
        let mut status = Status {
            kind: match target {
                Target::Url(_) | Target::Libpq => "server",
                Target::Embedded => "embedded",
                Target::Ephemeral => "ephemeral",
            },
            source: source.to_string(),
            running: false,
            url: None,
            host: None,
            port: None,
            database: None,
            user: None,
            server_version: None,
            schema_version: None,
            required_schema_version: db::required_version(),
            pid: None,
            data_dir: None,
            schema_readable: None,
            failure: None,
        };
        match target {
            Target::Embedded => {
                let server = app.persistent()?;
                let found = server.status().map_err(tenancy::Error::from)?;
                status.pid = found.pid;
                status.data_dir = Some(found.data_dir.display().to_string());
                status.url = Some(server.url().map_err(tenancy::Error::from)?);
                if !found.running {
                    return Ok(status);
                }
            }
            Target::Url(_) | Target::Libpq | Target::Ephemeral => {
                let options = app.options()?;
                status.host = Some(match options.get_socket() {
                    Some(socket) => socket.display().to_string(),
                    None => options.get_host().to_owned(),
                });
                status.port = Some(options.get_port());
            }
        }
        match app.connect().await {
            Ok(mut session) => {
                let mut transaction = session.begin().await?;
                let facts = db::facts(&mut transaction).await?;
                status.running = true;
                status.server_version = Some(facts.server_version);
                status.database = Some(facts.database);
                status.user = Some(facts.user);
                status.schema_readable = Some(facts.schema != SchemaVersion::Unreadable);
                if let SchemaVersion::Version(version) = facts.schema {
                    status.schema_version = Some(version);
                }
            }
            Err(error) => status.failure = Some(error),
        }
        Ok(status)
    }
}

impl Report for Status {
    fn view(&self) -> View {
        let schema = match self.schema_version {
            None if self.schema_readable == Some(false) => {
                "unreadable: this login may not look at the control plane".to_owned()
            }
            None => "none: run `tenantctl db migrate`".to_owned(),
            Some(version) if version == self.required_schema_version => version.to_string(),
            Some(version) => format!("{version}, this program needs {}", self.required_schema_version),
        };
        let running = if self.running { "running" } else { "not running" };
        let optional = [
            ("URL", self.url.clone()),
            ("HOST", self.host.clone()),
            ("PORT", self.port.map(|port| port.to_string())),
            ("DATABASE", self.database.clone()),
            ("USER", self.user.clone()),
            ("VERSION", self.server_version.clone()),
            ("SCHEMA", self.running.then_some(schema)),
            ("PID", self.pid.map(|pid| pid.to_string())),
            ("DATA", self.data_dir.clone()),
        ];
        let mut fields = vec![
            ("KIND", self.kind.to_owned()),
            ("SOURCE", self.source.clone()),
            ("STATE", running.to_owned()),
        ];
        fields.extend(optional.into_iter().filter_map(|(label, value)| value.map(|value| (label, value))));
        View::Record(fields)
    }

    fn ids(&self) -> Vec<String> {
        self.url.iter().chain(&self.host).take(1).cloned().collect()
    }

    fn failure(&mut self) -> Option<anyhow::Error> {
        self.failure.take()
    }
}
