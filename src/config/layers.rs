//! Looking a setting up: flag, environment, files.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::{File, Flags, Profile, Setting, Source, Target};
use crate::suggest::closest;
use crate::{Error, Result};

pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| "it is not a whole number in range".into())
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim().to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" | "" => Ok(false),
        _ => Err("it is neither true nor false".into()),
    }
}

/// What PostgreSQL takes as the beginning of a role's name without quotes, short enough for the longest role's name.
fn role_prefix(text: &str) -> Result<(), String> {
    const LONGEST: usize = 63 - "_auditor".len();
    let plain = |c: char| c == '_' || c.is_ascii_lowercase();
    if !text.starts_with(plain) || !text.chars().all(|c| plain(c) || c.is_ascii_digit()) {
        Err("it has to be lower-case letters, digits and _, and not begin with a digit".into())
    } else if text.len() > LONGEST {
        Err(format!("it is longer than {LONGEST} bytes"))
    } else if text.starts_with("pg_") {
        Err("PostgreSQL keeps names that begin with pg_ to itself".into())
    } else {
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text.trim()).map_err(|error| format!("{error}; write for example 30s or 5min"))
}

fn wrong(name: &str, value: &str, reason: &str) -> Error {
    Error::Configuration { what: format!("{name} is {value:?}: {reason}"), hint: None }
}

/// The environment over the files.
pub(super) struct Layers<'a> {
    pub(super) files: &'a [(PathBuf, File)],
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Layers<'_> {
    fn variable<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<Setting<T>>> {
        match (self.variable)(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => match parse(&value) {
                Ok(value) => Ok(Some(Setting { value, source: Source::Environment(name) })),
                Err(reason) => Err(wrong(name, &value, &reason)),
            },
        }
    }

    fn file<T>(&self, get: impl Fn(&File) -> Option<T>) -> Option<Setting<T>> {
        self.files.iter().find_map(|(path, file)| {
            get(file).map(|value| Setting { value, source: Source::File(path.clone()) })
        })
    }

    pub(super) fn find<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        get: impl Fn(&File) -> Option<T>,
    ) -> Result<Option<Setting<T>>> {
        Ok(self.variable(name, parse)?.or_else(|| self.file(get)))
    }

    pub(super) fn value<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        get: impl Fn(&File) -> Option<T>,
        default: T,
    ) -> Result<Setting<T>> {
        Ok(self.find(name, parse, get)?.unwrap_or(Setting { value: default, source: Source::Default }))
    }

    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        get: impl Fn(&File) -> Option<T>,
    ) -> Result<Setting<Option<T>>> {
        Ok(match self.find(name, parse, get)? {
            Some(Setting { value, source }) => Setting { value: Some(value), source },
            None => Setting { value: None, source: Source::Default },
        })
    }

    pub(super) fn duration(
        &self,
        flag: Option<&str>,
        name: &'static str,
        get: impl Fn(&File) -> Option<String>,
        default: Duration,
    ) -> Result<Setting<Duration>> {
        let said = match flag {
            Some(value) => Some(Setting { value: value.to_owned(), source: Source::Flag }),
            None => self.find(name, text, get)?,
        };
        match said {
            None => Ok(Setting { value: default, source: Source::Default }),
            Some(Setting { value, source }) => match duration(&value) {
                Ok(value) => Ok(Setting { value, source }),
                Err(reason) => Err(wrong(&format!("{name} ({source})"), &value, &reason)),
            },
        }
    }

    pub(super) fn role_prefix(&self) -> Result<Setting<String>> {
        let name = "TENANTCTL_ROLE_PREFIX";
        let setting = self.value(name, text, |file| file.role_prefix.clone(), "tenancy".into())?;
        match role_prefix(&setting.value) {
            Ok(()) => Ok(setting),
            Err(reason) => {
                Err(wrong(&format!("role_prefix, from {},", setting.source), &setting.value, &reason))
            }
        }
    }

    pub(super) fn profile(&self, name: &str) -> Result<(PathBuf, Profile)> {
        for (path, file) in self.files {
            if let Some(profile) = file.profiles.get(name) {
                return Ok((path.clone(), profile.clone()));
            }
        }
        let names = self.files.iter().flat_map(|(_, file)| file.profiles.keys().map(String::as_str));
        let suggestion = closest(name, names);
        Err(Error::Configuration {
            what: format!("there is no profile {name:?} in {}", self.file_names()),
            hint: Some(match suggestion {
                Some(other) => format!("did you mean {other:?}?"),
                None => "add it under profiles:, with a url".into(),
            }),
        })
    }

    fn file_names(&self) -> String {
        match self.files {
            [] => "any configuration file (there is none)".into(),
            files => {
                files.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>().join(" or ")
            }
        }
    }

    pub(super) fn target(
        &self,
        flags: &Flags,
        profile: Option<&Setting<String>>,
        chosen: Option<&(PathBuf, Profile)>,
    ) -> Result<Option<Setting<Target>>> {
        let flag = |target| Ok(Some(Setting { value: target, source: Source::Flag }));
        if let Some(url) = &flags.url {
            return flag(Target::Url(url.clone()));
        }
        if flags.ephemeral {
            return flag(Target::Ephemeral);
        }
        if flags.embedded {
            return flag(Target::Embedded);
        }
        let of_profile = || match (profile, chosen) {
            (Some(name), Some((path, profile))) => match (&profile.url, profile.embedded) {
                (Some(url), None | Some(false)) => Ok(Some((Target::Url(url.clone()), path))),
                (None, Some(true)) => Ok(Some((Target::Embedded, path))),
                (None, _) => Ok(None),
                (Some(_), Some(true)) => Err(Error::Configuration {
                    what: format!("profile {:?} in {} has both url and embedded", name.value, path.display()),
                    hint: Some("keep one of them".into()),
                }),
            },
            _ => Ok(None),
        };
        // A profile that was asked for by flag is stronger than any variable.
        if flags.profile.is_some()
            && let Some((value, _)) = of_profile()?
        {
            return flag(value);
        }
        let secret = |t: &str| Ok(Target::Url(SecretString::from(t)));
        if let Some(url) = self.variable("TENANTCTL_URL", secret)? {
            return Ok(Some(url));
        }
        if let Some(Setting { value: true, source }) = self.variable("TENANTCTL_EMBEDDED", boolean)? {
            return Ok(Some(Setting { value: Target::Embedded, source }));
        }
        if let Some((value, path)) = of_profile()? {
            let source = match profile {
                Some(Setting { source: Source::Environment(name), .. }) => Source::Environment(name),
                _ => Source::File(path.clone()),
            };
            return Ok(Some(Setting { value, source }));
        }
        if let Some(url) = self.variable("DATABASE_URL", secret)? {
            return Ok(Some(url));
        }
        if let Some(url) = self.file(|file| file.url.clone().map(Target::Url)) {
            return Ok(Some(url));
        }
        if let Some(embedded) = self.file(|file| file.embedded.filter(|on| *on).map(|_| Target::Embedded)) {
            return Ok(Some(embedded));
        }
        for name in ["PGHOST", "PGHOSTADDR", "PGDATABASE"] {
            if let Some(setting) = self.variable(name, |_| Ok(Target::Libpq))? {
                return Ok(Some(setting));
            }
        }
        Ok(None)
    }
}
