//! The sealed context: a transaction serves only a tenant that is signed.
//!
//! `tenantctl rls setup --context sealed` makes `tenancy.current_tenant_id()` take tokens alone: a tenant and a time to
//! expire, under HMAC-SHA-256 with a key that the application role cannot read. Whatever SQL is injected into the
//! application, it can name no tenant but the one whose token the transaction holds, until that expires.
//!
//! It does not stop whoever has the key, reads the memory of the service, or gets hold of another tenant's token: pass a
//! token as a parameter, never in the text of a statement, which `pg_stat_activity` shows to every session of the same
//! role, and logs keep. Neither does it stop what one tenant's rows allow: injected SQL in tenant A's transaction is
//! tenant A.
//!
//! A service signs with a key that its operator gives it (`tenantctl rls context key`):
//!
//! ```
//! # fn main() -> tenancy::Result<()> {
//! let file = "tenancy-context-v1 0123456789abcdef 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
//! let signer: tenancy::context::Signer = file.parse()?;
//! let token = signer.sign("efdbf657-4a1d-4046-92d2-509e72313954");
//! // In the service's transaction: SELECT set_config('app.current_tenant_id', $1, true)
//! assert!(token.starts_with("sealed-1.0123456789abcdef."));
//! # Ok(()) }
//! ```
//!
//! [`Session::signer`](crate::db::Session::signer) has [`enter_tenant`](crate::db::Transaction::enter_tenant) do it. A
//! token is taken where the context is not sealed as well, so that services can sign before it is.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{Error, Result, audit};

/// The setting that carries the tenant.
pub(crate) const SETTING: &str = "app.current_tenant_id";

/// What a key's file begins with.
const FORM: &str = "tenancy-context-v1";

/// How much of a token comes before the tenant.
pub(crate) const PREFIX: usize = 102;

/// How long a token is good for, unless [`Signer::with_ttl`] says otherwise: long enough for clocks that differ.
const TTL: Duration = Duration::from_secs(5 * 60);

/// Signs the tenant that a transaction serves.
#[derive(Clone)]
pub struct Signer {
    id: String,
    mac: Hmac<Sha256>,
    ttl: Duration,
}

impl Signer {
    /// Reads the key from a file that `tenantctl rls context key --out` wrote.
    ///
    /// # Errors
    /// [`Error::Configuration`] where it cannot be read or holds something else; never with what it holds.
    pub fn read(file: &Path) -> Result<Self> {
        let wrong = |why: String| Error::Configuration {
            what: format!("the key of the context in {}: {why}", file.display()),
            hint: None,
        };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        parse(&text).ok_or_else(|| wrong(MALFORMED.into()))
    }

    /// The id of the key.
    pub fn key_id(&self) -> &str {
        &self.id
    }

    /// The same with tokens that are good for another time than five minutes.
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// A token for this tenant, good for transactions that begin within the time to live. A tenant without a name has
    /// none: its token is never accepted.
    pub fn sign(&self, tenant: impl fmt::Display) -> String {
        self.sign_until(tenant, OffsetDateTime::now_utc() + self.ttl)
    }

    /// A token that expires at this time, to the second.
    pub fn sign_until(&self, tenant: impl fmt::Display, expiry: OffsetDateTime) -> String {
        // Ten digits last until the year 2286, which is as far as a token can say.
        let expiry = expiry.unix_timestamp().clamp(0, 9_999_999_999);
        self.token(&format!("{}.{expiry:010}", self.id), tenant)
    }

    fn token(&self, head: &str, tenant: impl fmt::Display) -> String {
        let mac = self.mac.clone().chain_update(format!("{FORM}.{head}.{tenant}")).finalize().into_bytes();
        format!("sealed-1.{head}.{}.{tenant}", hex(&mac))
    }

    /// The tenant of a token of this key that is good now.
    pub(crate) fn tenant_of<'t>(&self, token: &'t str) -> Option<&'t str> {
        let (head, tenant) = (token.get(9..36)?, token.get(PREFIX..)?);
        let expiry: i64 = head.get(17..)?.parse().ok()?;
        let good = self.token(head, tenant) == token && expiry > OffsetDateTime::now_utc().unix_timestamp();
        good.then_some(tenant)
    }
}

/// Nothing of the key shows.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

const MALFORMED: &str = "it is no key that `tenantctl rls context key` wrote";

impl FromStr for Signer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| Error::Configuration {
            what: format!("the key of the context: {MALFORMED}"),
            hint: None,
        })
    }
}

fn parse(text: &str) -> Option<Signer> {
    let mut words = text.split_ascii_whitespace();
    let (form, id, key) = (words.next()?, words.next()?, words.next()?);
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if form != FORM
        || words.next().is_some()
        || id.len() != 16
        || key.len() != 64
        || !is_hex(id)
        || !is_hex(key)
    {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        (0..32).map(|at| u8::from_str_radix(key.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    let mac = Hmac::new_from_slice(&bytes?).ok()?;
    Some(Signer { id: id.into(), mac, ttl: TTL })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the context has to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Whoever sets the setting is believed.
    Plain,
    /// Only what a key of the control plane signed is taken.
    Sealed,
}

impl Mode {
    /// The name of the mode in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Sealed => "sealed",
        }
    }
}

/// A key of the context, without the key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Key {
    /// Its id, which every token names.
    pub id: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it stops being valid; none for the key that signs.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// The mode of the context and its keys, newest first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct State {
    /// Whether it has to be signed.
    pub mode: Mode,
    /// The keys that are valid.
    pub keys: Vec<Key>,
}

/// The mode and the keys, in a transaction on the control plane as its owner.
///
/// # Errors
/// [`Error::Database`].
pub async fn state(tx: &mut PgConnection) -> Result<State> {
    let mode = sqlx::query_file_scalar!("sql/context/mode.sql").fetch_one(&mut *tx).await?;
    let keys = sqlx::query_file_as!(Key, "sql/context/keys.sql").fetch_all(tx).await?;
    Ok(State { mode: if mode == "sealed" { Mode::Sealed } else { Mode::Plain }, keys })
}

/// Makes a new key, which signs from now on; what the old ones signed is taken for another while. Returns its id.
///
/// # Errors
/// [`Error::Database`].
pub async fn rotate(tx: &mut PgConnection, grace: Duration) -> Result<String> {
    let grace = i64::try_from(grace.as_secs())
        .map_err(|_| Error::invalid("grace", format!("{} s", grace.as_secs()), "it is too long"))?;
    let id = sqlx::query_file_scalar!("sql/context/rotate.sql", grace as f64).fetch_one(&mut *tx).await?;
    audit::record(tx, "context.rotate", None, serde_json::json!({ "key": id, "grace_seconds": grace }))
        .await?;
    Ok(id)
}

/// The key that signs, as [`Signer`] reads it: for the file of a service, and for nothing else.
///
/// # Errors
/// [`Error::Refused`] where there is none yet; [`Error::Database`].
pub async fn signing_key(tx: &mut PgConnection) -> Result<secrecy::SecretString> {
    let key = sqlx::query_file_scalar!("sql/context/signing_key.sql").fetch_one(&mut *tx).await?;
    let key = key.ok_or_else(|| {
        Error::refused(
            "there is no key that signs the context",
            "make one with `tenantctl rls context rotate`",
        )
    })?;
    audit::record(tx, "context.key", None, serde_json::json!({})).await?;
    Ok(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_key_is_read_and_never_shown() {
        let text = format!("{FORM} 0123456789abcdef {KEY}\n");
        let signer: Signer = text.parse().unwrap();
        assert_eq!(signer.key_id(), "0123456789abcdef");
        assert!(!format!("{signer:?}").contains(&KEY[..8]), "{signer:?}");
        for wrong in [
            String::new(),
            KEY.into(),
            text.replace("v1", "v2"),
            text.replace("abcdef ", "abcde "),
            text.replace("1e1f", "1e"),
            text.replace("1e1f", "1eZZ"),
            text.replace("1e1f", "1E1F"),
            text.replace("0001", "é01"),
            format!("{text} more"),
        ] {
            let error = wrong.parse::<Signer>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("0203"), "{error:?}");
        }
    }

    #[test]
    fn a_token_says_who_and_until_when() {
        let signer: Signer = format!("{FORM} 0123456789abcdef {KEY}").parse().unwrap();
        let at = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        // The MAC is openssl's: printf %s 'tenancy-context-v1.0123456789abcdef.1800000000.acme' |
        // openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f
        assert_eq!(
            signer.sign_until("acme", at),
            "sealed-1.0123456789abcdef.1800000000.6813c00dadef7f4c2cb83687ed0ec24cf33523e2faa8a5ff898ae3ee6b3a0b45.acme"
        );
        let soon = signer.clone().with_ttl(Duration::from_secs(60)).sign("acme");
        assert!(soon < signer.sign("acme") && soon != signer.sign_until("acme", at));
    }
}
