//! How a probe acts for a tenant: the settings that carry the context, with the tenant and the user filled in.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::context::{PREFIX, SETTING, Signer};
use crate::db::quote::literal;
use crate::rls::contract::{Context, Tenants, statement};

/// How a probe acts for a tenant.
#[derive(Debug, Clone)]
pub(crate) struct Acting {
    settings: Vec<(String, Template)>,
    /// The statements as the platform runs them.
    set: Vec<String>,
    prepare: Vec<String>,
    keys: Option<[String; 2]>,
    /// A user of tenant A, one of B, and one whom nobody knows.
    users: [String; 3],
    role: String,
    seal: Seal,
}

/// Whether the control plane's own setting takes any tenant, or has to be signed.
#[derive(Debug, Clone)]
enum Seal {
    None,
    Signed(Signer),
    /// Whoever verifies may not sign.
    Locked,
}

/// A tenant in context that nobody signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forgery {
    /// The tenant alone.
    Bare,
    /// A token with another MAC.
    Mac,
    /// A token of tenant A's that says B.
    Swapped,
    /// A token that was good once.
    Expired,
}

/// A value with placeholders in it.
#[derive(Debug, Clone)]
struct Template {
    text: String,
    json: bool,
}

const PLACEHOLDERS: [&str; 3] = ["{tenant}", "{user}", "{role}"];

impl Acting {
    /// One setting holds the tenant, as the control plane has it.
    pub(crate) fn plain(setting: &str) -> Self {
        let set = format!("SELECT pg_catalog.set_config({}, {{tenant}}, true)", literal(setting));
        let settings = vec![(setting.into(), Template { text: "{tenant}".into(), json: false })];
        Self { set: vec![set], ..Self::new(settings, "") }
    }

    fn new(settings: Vec<(String, Template)>, role: &str) -> Self {
        let users = std::array::from_fn(|_| uuid::Uuid::new_v4().to_string());
        Self {
            settings,
            set: Vec::new(),
            prepare: Vec::new(),
            keys: None,
            users,
            role: role.into(),
            seal: Seal::None,
        }
    }

    /// What a contract says, for one application role. The error names the key of the contract.
    pub(crate) fn of(context: &Context, role: &str) -> Result<Self, String> {
        let mut settings: Vec<(String, Template)> = Vec::new();
        for text in &context.set {
            let (name, value) = statement::assignment(text)?;
            if settings.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                return Err(format!("context.set: {name} is set twice"));
            }
            settings.push((name, Template::new(value)));
        }
        let names = |template: &Template| template.names("{tenant}") || template.names("{user}");
        if !settings.iter().any(|(_, template)| names(template)) {
            return Err("context.set: no value holds {tenant} or {user}".into());
        }
        let keys = match &context.tenants {
            Tenants::Auto => None,
            Tenants::Given(keys) => Some(keys.clone()),
        };
        Ok(Self {
            set: context.set.clone(),
            prepare: context.prepare.clone(),
            keys,
            ..Self::new(settings, role)
        })
    }

    /// The same for a control plane that takes signed tenants only: with the key, or without where whoever verifies may
    /// not have it.
    pub(crate) fn sealed(self, signer: Option<Signer>) -> Self {
        if !self.uses(SETTING) {
            return self;
        }
        Self { seal: signer.map_or(Seal::Locked, Seal::Signed), ..self }
    }

    /// Whether no transaction can be brought into a tenant's context.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.seal, Seal::Locked)
    }

    /// Ways to claim tenant B without its signature, where one is needed and nothing else says who is there.
    pub(crate) fn forgeries(&self) -> &'static [Forgery] {
        match (&self.seal, self.settings.len()) {
            (Seal::Signed(_), 1) => &[Forgery::Bare, Forgery::Mac, Forgery::Swapped, Forgery::Expired],
            _ => &[],
        }
    }

    /// The settings with a forged tenant B, for whom A's and B's keys are these.
    pub(crate) fn forged(&self, forgery: Forgery, a: &str, b: &str) -> BTreeMap<String, String> {
        let Seal::Signed(signer) = &self.seal else { return self.blank() };
        let now = OffsetDateTime::now_utc();
        // One that expired would be refused for that alone.
        let late = now + time::Duration::days(36_500);
        let token = match forgery {
            Forgery::Bare => b.to_owned(),
            Forgery::Mac => signer
                .sign_until(b, late)
                .chars()
                .enumerate()
                .map(|(at, c)| if (37..101).contains(&at) { '0' } else { c })
                .collect(),
            Forgery::Swapped => signer.sign_until(a, late).chars().take(PREFIX).chain(b.chars()).collect(),
            Forgery::Expired => signer.sign_until(b, now - time::Duration::hours(1)),
        };
        self.settings.iter().map(|(name, _)| (name.clone(), token.clone())).collect()
    }

    /// Whether the context has to be signed.
    pub(crate) fn is_sealed(&self) -> bool {
        !matches!(self.seal, Seal::None)
    }

    /// A setting's value as SQL for a script that is run later: a tenant is signed anew.
    pub(crate) fn expression(&self, value: &str) -> String {
        let tenant = match &self.seal {
            Seal::Signed(signer) => signer.tenant_of(value),
            Seal::None | Seal::Locked => None,
        };
        tenant.map_or_else(|| literal(value), |tenant| format!("tenancy.sign_context({})", literal(tenant)))
    }

    /// The setting that names the tenant, else the first.
    pub(crate) fn setting(&self) -> &str {
        let named = self.settings.iter().find(|(_, template)| template.names("{tenant}"));
        named.or(self.settings.first()).map_or("", |(name, _)| name)
    }

    /// All settings of the context.
    pub(crate) fn settings(&self) -> Vec<String> {
        self.settings.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether the setting belongs to the context.
    pub(crate) fn uses(&self, setting: &str) -> bool {
        self.settings.iter().any(|(name, _)| name.eq_ignore_ascii_case(setting))
    }

    /// The key that the contract gives tenant A (0) or B (1).
    pub(crate) fn key(&self, which: usize) -> Option<&str> {
        self.keys.as_ref()?.get(which).map(String::as_str)
    }

    /// The settings of a tenant: A (0), B (1) or one that nobody knows (2).
    pub(crate) fn tenant(&self, key: &str, which: usize) -> BTreeMap<String, String> {
        let mut settings = self.with(key, self.users.get(which).map_or("", String::as_str));
        for (name, value) in &mut settings {
            *value = self.signed(name, value);
        }
        settings
    }

    /// The value of a setting, signed where it has to be.
    fn signed(&self, setting: &str, value: &str) -> String {
        match &self.seal {
            Seal::Signed(signer) if setting.eq_ignore_ascii_case(SETTING) => signer.sign(value),
            Seal::Signed(_) | Seal::None | Seal::Locked => value.to_owned(),
        }
    }

    /// The settings with these values in the placeholders.
    pub(crate) fn with(&self, tenant: &str, user: &str) -> BTreeMap<String, String> {
        let fill = |template: &Template| template.fill([tenant, user, &self.role]);
        self.settings.iter().map(|(name, template)| (name.clone(), fill(template))).collect()
    }

    /// The settings as a connection has them whose transaction is over.
    pub(crate) fn blank(&self) -> BTreeMap<String, String> {
        self.settings.iter().map(|(name, _)| (name.clone(), String::new())).collect()
    }

    /// The settings with nothing in the placeholders, where that is not the same as blank ones.
    pub(crate) fn hollow(&self) -> Option<BTreeMap<String, String>> {
        let hollow = self.with("", "");
        (hollow != self.blank()).then_some(hollow)
    }

    /// The statements that enter the tenant with that key, A (0) or B (1), as the platform runs them.
    pub(crate) fn enter(&self, key: &str, which: usize) -> Vec<String> {
        let user = self.users.get(which).map_or("", String::as_str);
        let settings = self.settings.iter().zip(&self.set);
        settings
            .map(|((name, _), text)| in_statement(text, [&self.signed(name, key), user, self.role.as_str()]))
            .collect()
    }

    /// The statements that make the user of A (0) or B (1) a member of the tenant with that key.
    pub(crate) fn prepare(&self, key: &str, user: usize) -> Vec<String> {
        self.filled(&self.prepare, key, user)
    }

    fn filled(&self, statements: &[String], key: &str, user: usize) -> Vec<String> {
        let values = [key, self.users.get(user).map_or("", String::as_str), self.role.as_str()];
        statements.iter().map(|text| in_statement(text, values)).collect()
    }

    /// For each of these statements the table that it adds rows to, as it writes it.
    pub(crate) fn prepared_tables(&self) -> Vec<Option<String>> {
        self.prepare.iter().map(|text| inserted_into(text)).collect()
    }
}

impl Template {
    fn new(text: String) -> Self {
        let sample = PLACEHOLDERS.iter().fold(text.clone(), |text, name| text.replace(name, "0"));
        let json = serde_json::from_str::<serde_json::Value>(&sample)
            .is_ok_and(|value| value.is_object() || value.is_array());
        Self { text, json }
    }

    fn names(&self, placeholder: &str) -> bool {
        self.text.contains(placeholder)
    }

    /// The value with the placeholders filled in; in JSON a value cannot end the text that it stands in.
    fn fill(&self, values: [&str; 3]) -> String {
        replace(&self.text, |at, _| {
            let value = serde_json::Value::from(values[at]).to_string();
            let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            if self.json { inner.unwrap_or_default().to_owned() } else { values[at].to_owned() }
        })
    }
}

/// Replaces each placeholder once; what was put in is not looked at again.
fn replace(text: &str, mut with: impl FnMut(usize, &str) -> String) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        done.push_str(&rest[..at]);
        rest = &rest[at..];
        let found = PLACEHOLDERS.iter().enumerate().find(|(_, name)| rest.starts_with(**name));
        let taken = match found {
            Some((which, name)) => {
                done.push_str(&with(which, &done));
                name.len()
            }
            None => {
                done.push('{');
                1
            }
        };
        rest = &rest[taken..];
    }
    done + rest
}

/// A statement with the placeholders filled in: inside a string as they are, with quotes doubled; outside as a literal.
fn in_statement(statement: &str, values: [&str; 3]) -> String {
    replace(statement, |at, before| {
        let inside = before.matches('\'').count() % 2 == 1;
        if inside { values[at].replace('\'', "''") } else { literal(values[at]) }
    })
}

/// The table that a statement inserts into, as it writes it.
fn inserted_into(statement: &str) -> Option<String> {
    let lower = statement.to_ascii_lowercase();
    let at = lower.find("insert into")? + "insert into".len();
    let rest = statement.get(at..)?.trim_start();
    let mut quoted = false;
    let end = rest.find(|c: char| {
        quoted ^= c == '"';
        !quoted && (c.is_whitespace() || c == '(')
    });
    Some(rest[..end.unwrap_or(rest.len())].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acting(set: &[&str], prepare: &[&str]) -> Acting {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let context = Context { set: owned(set), prepare: owned(prepare), tenants: Tenants::Auto };
        Acting::of(&context, "authenticated").unwrap()
    }

    #[test]
    fn values_cannot_break_out() {
        let set =
            ["SELECT set_config('request.jwt.claims', '{\"sub\": \"{user}\", \"role\": \"{role}\"}', true)"];
        let acting = acting(&set, &["INSERT INTO m (a, b) VALUES ('{tenant}', {user})"]);
        let claims = &acting.with("x", "a\", \"role\": \"service_role{tenant}")["request.jwt.claims"];
        let claims: serde_json::Value = serde_json::from_str(claims).unwrap();
        assert_eq!(claims["role"], "authenticated");
        assert_eq!(claims["sub"], "a\", \"role\": \"service_role{tenant}");
        let user = acting.users[0].clone();
        assert_eq!(
            acting.prepare("a'); DROP TABLE m; --", 0),
            [format!("INSERT INTO m (a, b) VALUES ('a''); DROP TABLE m; --', '{user}')")]
        );
    }

    #[test]
    fn an_empty_context_is_not_always_a_blank_one() {
        let plain = acting(&["SET LOCAL app.tenant = '{tenant}'"], &[]);
        assert_eq!(plain.hollow(), None);
        let two = acting(&["SET LOCAL app.tenant = '{tenant}'", "SET LOCAL app.mode = 'web'"], &[]);
        assert_eq!(two.setting(), "app.tenant");
        assert_eq!(two.hollow().unwrap()["app.mode"], "web");
        assert_eq!(two.blank()["app.mode"], "");
    }

    #[test]
    fn the_prepared_tables_are_known() {
        let set = ["SET LOCAL app.user = '{user}'"];
        let acting = acting(
            &set,
            &[
                "INSERT INTO public.m(a) VALUES (1)",
                "insert into \"My\".\"T x\" (b) SELECT 1",
                "UPDATE x SET y = 1",
            ],
        );
        let found: Vec<_> = acting.prepared_tables().into_iter().flatten().collect();
        assert_eq!(found, ["public.m", "\"My\".\"T x\""]);
    }
}
