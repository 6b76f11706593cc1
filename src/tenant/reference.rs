//! The ways in which a request or a person names a tenant.

use std::fmt;

use uuid::Uuid;

use super::TenantId;
use crate::{Error, Result};

/// The ways to name a tenant: what `X-Tenant-ID` values, path segments and Host headers hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantRef {
    /// By its identifier.
    Id(TenantId),
    /// By its slug, or one that it had before.
    Slug(String),
}

impl TenantRef {
    /// Reads a slug, a UUID, or a host name under the platform's base domain (`acme.hackops.com`, a port allowed).
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is a host name and not one label under the base domain.
    pub fn parse(text: &str, base_domain: Option<&str>) -> Result<Self> {
        let text = text.trim();
        if let Ok(id) = Uuid::parse_str(text) {
            return Ok(Self::Id(TenantId(id)));
        }
        let lower = text.to_lowercase();
        if !lower.contains('.') {
            return Ok(Self::Slug(lower));
        }
        let host = lower.split_once(':').map_or(lower.as_str(), |(host, _port)| host).trim_end_matches('.');
        let Some(base) = base_domain.map(|d| d.trim_matches('.').to_lowercase()) else {
            return Err(Error::Invalid {
                field: "tenant",
                value: text.into(),
                reason: "it looks like a host name, and no base domain is configured".into(),
                hint: Some("set base_domain in tenantctl.yaml, or give the slug".into()),
            });
        };
        match host.strip_suffix(&base).and_then(|rest| rest.strip_suffix('.')) {
            Some(label) if !label.is_empty() && !label.contains('.') => Ok(Self::Slug(label.into())),
            _ => Err(Error::invalid("tenant", text, format!("it is not one label under {base}"))),
        }
    }
}

impl fmt::Display for TenantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Slug(slug) => slug.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_named_in_every_way_that_a_request_names_one() {
        let parse = |text| TenantRef::parse(text, Some("hackops.com"));
        let id = "0b6f4e1c-7f7a-4c39-9c1e-7e1f6f6a2a11";
        assert_eq!(parse(id).unwrap(), TenantRef::Id(TenantId(id.parse().unwrap())));
        assert_eq!(parse("Acme").unwrap(), TenantRef::Slug("acme".into()));
        assert_eq!(parse("acme.hackops.com").unwrap(), TenantRef::Slug("acme".into()));
        assert_eq!(parse("ACME.hackops.com:8443").unwrap(), TenantRef::Slug("acme".into()));
        for wrong in
            ["hackops.com", "a.b.hackops.com", "acme.evil.com", "acme.evilhackops.com", ".hackops.com"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(TenantRef::parse("acme.hackops.com", None).is_err());
    }
}
