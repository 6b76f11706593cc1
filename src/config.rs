//! Configuration: flag over environment over project file over user file over default, each value with where it came
//! from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use crate::db::embedded::Request;
use crate::db::{PoolSettings, redact};
use crate::{Error, Result};

mod layers;
use layers::{Layers, boolean, number, text};

/// Name of the project file, looked for in the current directory and those above it.
pub const PROJECT_FILE: &str = "tenantctl.yaml";

/// A configuration file. Keys that are not here are errors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    url: Option<SecretString>,
    profile: Option<String>,
    profiles: BTreeMap<String, Profile>,
    embedded: Option<bool>,
    pg_bin: Option<PathBuf>,
    pg_version: Option<u16>,
    data_dir: Option<PathBuf>,
    role_prefix: Option<String>,
    base_domain: Option<String>,
    grace_days: Option<u32>,
    statement_timeout: Option<String>,
    lock_timeout: Option<String>,
    db_pool_size: Option<u32>,
    db_max_overflow: Option<u32>,
    db_pool_recycle: Option<u64>,
    enable_tenant_isolation: Option<bool>,
    system_admin_bypass: Option<bool>,
}

/// A named database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Profile {
    url: Option<SecretString>,
    embedded: Option<bool>,
    protected: bool,
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--url`.
    pub url: Option<SecretString>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--embedded`.
    pub embedded: bool,
    /// `--ephemeral`.
    pub ephemeral: bool,
    /// `--statement-timeout`.
    pub statement_timeout: Option<String>,
    /// `--lock-timeout`.
    pub lock_timeout: Option<String>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag on the command line.
    Flag,
    /// An environment variable.
    Environment(&'static str),
    /// A configuration file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(name) => write!(f, "environment ({name})"),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

/// Which database to use.
#[derive(Debug, Clone)]
pub enum Target {
    /// The one at this URL.
    Url(SecretString),
    /// The one that libpq's variables name.
    Libpq,
    /// The private server of this machine's user.
    Embedded,
    /// A private server for this one command.
    Ephemeral,
}

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which database; none where nobody named one.
    pub target: Option<Setting<Target>>,
    /// The profile in use.
    pub profile: Option<Setting<String>>,
    /// Whether the profile says that destructive verbs must name what they destroy.
    pub protected: bool,
    /// Which PostgreSQL binaries a private server runs.
    pub pg_bin: Setting<Option<PathBuf>>,
    /// Which major version a private server has to be.
    pub pg_version: Setting<Option<u16>>,
    /// Where the private server keeps its data; none for the platform's usual place.
    pub data_dir: Setting<Option<PathBuf>>,
    /// What the names of the roles begin with.
    pub role_prefix: Setting<String>,
    /// The domain under which tenants have their host names.
    pub base_domain: Setting<Option<String>>,
    /// Days from a tenant's deletion until its data may be removed.
    pub grace_days: Setting<u32>,
    /// Longest that a statement may run; zero for no limit.
    pub statement_timeout: Setting<Duration>,
    /// Longest that a statement may wait for a lock; zero for no limit.
    pub lock_timeout: Setting<Duration>,
    /// `DB_POOL_SIZE`.
    pub db_pool_size: Setting<u32>,
    /// `DB_MAX_OVERFLOW`.
    pub db_max_overflow: Setting<u32>,
    /// `DB_POOL_RECYCLE`, in seconds.
    pub db_pool_recycle: Setting<u64>,
    /// `ENABLE_TENANT_ISOLATION`: whether `rls setup` may work at all.
    pub enable_tenant_isolation: Setting<bool>,
    /// `SYSTEM_ADMIN_BYPASS`: whether the admin role gets policies of its own.
    pub system_admin_bypass: Setting<bool>,
    /// The files that were read, the strongest first.
    pub files: Vec<PathBuf>,
}

/// What the configuration is made from: all that it would otherwise read from the process.
pub struct Inputs<'a> {
    /// The command line.
    pub flags: Flags,
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Where to begin to look for the project file.
    pub directory: PathBuf,
    /// The user's file, whether it exists or not.
    pub user_file: Option<PathBuf>,
}

/// Where the user's own configuration file is.
pub fn user_file() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "tenantctl").map(|dirs| dirs.config_dir().join("config.yaml"))
}

impl Config {
    /// Puts the configuration together.
    ///
    /// # Errors
    /// [`Error::Configuration`] naming file, variable or flag and what is wrong with it.
    pub fn load(inputs: Inputs<'_>) -> Result<Self> {
        let mut files = Vec::new();
        let project = match &inputs.flags.config {
            Some(path) => Some(path.clone()),
            None => inputs.directory.ancestors().map(|d| d.join(PROJECT_FILE)).find(|p| p.is_file()),
        };
        if let Some(path) = project {
            files.push((path.clone(), read(&path)?));
        }
        if let Some(path) = inputs.user_file.filter(|p| p.is_file()) {
            files.push((path.clone(), read(&path)?));
        }
        let layers = Layers { files: &files, variable: inputs.variable };
        let flags = inputs.flags;

        let profile = match flags.profile.clone() {
            Some(value) => Some(Setting { value, source: Source::Flag }),
            None => layers.find("TENANTCTL_PROFILE", text, |file| file.profile.clone())?,
        };
        let chosen = profile.as_ref().map(|setting| layers.profile(&setting.value)).transpose()?;
        let target = layers.target(&flags, profile.as_ref(), chosen.as_ref())?;

        Ok(Self {
            target,
            protected: chosen.as_ref().is_some_and(|(_, profile)| profile.protected),
            profile,
            pg_bin: layers.optional("TENANTCTL_PG_BIN", |t| Ok(PathBuf::from(t)), |f| f.pg_bin.clone())?,
            pg_version: layers.optional("TENANTCTL_PG_VERSION", number, |f| f.pg_version)?,
            data_dir: layers.optional(
                "TENANTCTL_DATA_DIR",
                |t| Ok(PathBuf::from(t)),
                |f| f.data_dir.clone(),
            )?,
            role_prefix: layers.role_prefix()?,
            base_domain: layers.optional("TENANTCTL_BASE_DOMAIN", text, |f| f.base_domain.clone())?,
            grace_days: layers.value("TENANTCTL_GRACE_DAYS", number, |f| f.grace_days, 30)?,
            statement_timeout: layers.duration(
                flags.statement_timeout.as_deref(),
                "TENANTCTL_STATEMENT_TIMEOUT",
                |f| f.statement_timeout.clone(),
                Duration::ZERO,
            )?,
            lock_timeout: layers.duration(
                flags.lock_timeout.as_deref(),
                "TENANTCTL_LOCK_TIMEOUT",
                |f| f.lock_timeout.clone(),
                Duration::from_secs(10),
            )?,
            db_pool_size: layers.value("DB_POOL_SIZE", number, |f| f.db_pool_size, 20)?,
            db_max_overflow: layers.value("DB_MAX_OVERFLOW", number, |f| f.db_max_overflow, 30)?,
            db_pool_recycle: layers.value("DB_POOL_RECYCLE", number, |f| f.db_pool_recycle, 3600)?,
            enable_tenant_isolation: layers.value(
                "ENABLE_TENANT_ISOLATION",
                boolean,
                |f| f.enable_tenant_isolation,
                true,
            )?,
            system_admin_bypass: layers.value(
                "SYSTEM_ADMIN_BYPASS",
                boolean,
                |f| f.system_admin_bypass,
                false,
            )?,
            files: files.iter().map(|(path, _)| path.clone()).collect(),
        })
    }

    /// What a platform's service gives its pool.
    pub fn pool_settings(&self) -> PoolSettings {
        PoolSettings {
            size: self.db_pool_size.value,
            overflow: self.db_max_overflow.value,
            recycle: Duration::from_secs(self.db_pool_recycle.value),
        }
    }

    /// Which binaries a private server is to run.
    pub fn server_request(&self) -> Request {
        Request { bin_dir: self.pg_bin.value.clone(), major: self.pg_version.value }
    }
}

fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::Configuration {
        what: format!("{} cannot be read: {error}", path.display()),
        hint: None,
    })?;
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_yaml::from_str(&text).map_err(|error| Error::Configuration {
        what: format!("{}: {}", path.display(), redact(&error.to_string())),
        hint: Some("`tenantctl config show` prints the keys that there are".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(yaml: &str, flags: Flags, variables: &[(&str, &str)]) -> Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(PROJECT_FILE), yaml).unwrap();
        let below = directory.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Config::load(Inputs { flags, variable: &variable, directory: below, user_file: None })
    }

    #[test]
    fn the_stronger_source_wins() {
        let yaml = "lock_timeout: 1s\ndb_pool_size: 5\n";
        let config = load(yaml, Flags::default(), &[("DB_POOL_SIZE", "7")]).unwrap();
        assert_eq!(config.pool_settings().size, 7);
        assert_eq!(config.db_pool_size.source, Source::Environment("DB_POOL_SIZE"));
        assert_eq!(config.lock_timeout.value, Duration::from_secs(1));
        let flags = Flags { lock_timeout: Some("2s".into()), ..Flags::default() };
        assert_eq!(load(yaml, flags, &[]).unwrap().lock_timeout.value, Duration::from_secs(2));
    }

    #[test]
    fn a_database_is_named_in_many_ways_and_none_is_implied() {
        let target = |yaml, flags, variables: &[(&str, &str)]| load(yaml, flags, variables).unwrap().target;
        assert!(target("", Flags::default(), &[]).is_none());
        let libpq = target("", Flags::default(), &[("PGHOST", "/tmp")]).unwrap();
        assert!(matches!(libpq.value, Target::Libpq));
        let profiles =
            "profiles: {prod: {url: 'postgres://prod/db', protected: true}, here: {embedded: true}}";
        let here = Flags { profile: Some("here".into()), ..Flags::default() };
        let found = target(profiles, here, &[("TENANTCTL_URL", "postgres://other/db")]).unwrap();
        assert!(matches!(found.value, Target::Embedded));
        assert!(load(profiles, Flags::default(), &[("TENANTCTL_PROFILE", "prod")]).unwrap().protected);
        let unknown =
            load(profiles, Flags { profile: Some("prdo".into()), ..Flags::default() }, &[]).unwrap_err();
        assert_eq!(unknown.hint().as_deref(), Some("did you mean \"prod\"?"));
    }

    #[test]
    fn mistakes_are_errors_that_name_the_place() {
        let unknown = load("pool_szie: 3", Flags::default(), &[]).unwrap_err().to_string();
        assert!(unknown.contains("pool_szie") && unknown.contains(PROJECT_FILE), "{unknown}");
        let error = load("", Flags::default(), &[("DB_POOL_SIZE", "many")]).unwrap_err().to_string();
        assert!(error.contains("DB_POOL_SIZE"), "{error}");
    }
}
