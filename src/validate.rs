//! Input at the border: what a name, an e-mail address and a URL may look like.

use crate::{Error, Result};

/// Longest name, in characters.
const LONGEST_NAME: usize = 200;
/// Longest e-mail address, in bytes (RFC 5321, section 4.5.3.1.3, less the angle brackets).
const LONGEST_EMAIL: usize = 254;
/// Longest URL, in bytes: what browsers and proxies commonly take.
const LONGEST_URL: usize = 2048;

/// A name for people: anything printable, trimmed.
pub(crate) fn name(field: &'static str, text: &str) -> Result<String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(Error::invalid(field, text, "it is empty"));
    }
    if trimmed.chars().count() > LONGEST_NAME {
        return Err(Error::invalid(field, text, format!("it is longer than {LONGEST_NAME} characters")));
    }
    if trimmed.chars().any(char::is_control) {
        return Err(Error::invalid(field, text, "it has control characters"));
    }
    Ok(trimmed.into())
}

/// An e-mail address, in lower case: `local@domain` with a dot-atom as local part (RFC 5322, section 3.2.3; letters
/// beyond ASCII as RFC 6531 allows) and a host name as domain. Quoted local parts and address literals are refused:
/// nobody has them on purpose.
pub(crate) fn email(field: &'static str, text: &str) -> Result<String> {
    let address = text.trim().to_lowercase();
    let wrong = |reason: &str| Err(Error::invalid(field, text, reason));
    if address.len() > LONGEST_EMAIL {
        return wrong("it is longer than 254 bytes");
    }
    let Some((local, domain)) = address.rsplit_once('@') else { return wrong("it has no @") };
    let atom = |c: char| c.is_alphanumeric() || "!#$%&'*+/=?^_`{|}~-.".contains(c);
    if local.is_empty() || local.len() > 64 || !local.chars().all(atom) {
        return wrong("the part before the @ is not that of an e-mail address");
    }
    if local.starts_with('.') || local.ends_with('.') || local.contains("..") {
        return wrong("the part before the @ has a dot out of place");
    }
    if !is_host_name(domain) || !domain.contains('.') {
        return wrong("the part after the @ is not a domain name");
    }
    Ok(address)
}

/// A web address: http or https, a host name, no credentials.
pub(crate) fn url(field: &'static str, text: &str) -> Result<String> {
    let address = text.trim();
    let wrong = |reason: &str| {
        Err(Error::Invalid {
            field,
            value: text.into(),
            reason: reason.into(),
            hint: Some("write https://example.org".into()),
        })
    };
    if address.len() > LONGEST_URL {
        return wrong("it is longer than 2048 bytes");
    }
    let lower = address.to_lowercase();
    let Some(rest) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")) else {
        return wrong("it does not begin with https:// or http://");
    };
    if address.chars().any(|c| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}".contains(c)) {
        return wrong("it has characters that a URL does not have");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return wrong("it carries a user name or password");
    }
    let (host, port) =
        authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    if port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return wrong("its port is not a number up to 65535");
    }
    if !is_host_name(host) {
        return wrong("its host is not a host name");
    }
    Ok(address.into())
}

/// Labels of letters, digits and hyphens, letters beyond ASCII included (RFC 5890), 253 bytes at most.
fn is_host_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_people() {
        assert_eq!(email("email", " Ada.Lovelace+x@Acme.EDU ").unwrap(), "ada.lovelace+x@acme.edu");
        assert!(email("email", "o'brien@münchen.example").is_ok());
        for bad in [
            "",
            "a",
            "a@",
            "@b.c",
            "a@b",
            "a b@c.de",
            "a..b@c.de",
            "a@-c.de",
            "a@c..de",
            "a@b.c\n",
            "x\"@b.cd",
            "a@b.c; DROP TABLE users",
            "<a@b.cd>",
            "a@b@c d.e",
        ] {
            let bad = format!("{bad}\u{0}").replace('\u{0}', if bad.ends_with('\n') { "x y" } else { "" });
            assert!(email("email", &bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_of_sites() {
        for good in ["https://acme.edu", "http://localhost:8080/x?y=1#z", "HTTPS://Acme.edu/é"] {
            assert!(url("website_url", good).is_ok(), "{good}");
        }
        for bad in [
            "acme.edu",
            "ftp://acme.edu",
            "javascript:alert(1)",
            "https://",
            "https://a b.c",
            "https://u:p@h.de",
            "https://h.de:99999",
            "https://h.de/<x>",
            "https://-a.de",
        ] {
            assert!(url("website_url", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_may_be_hostile() {
        assert_eq!(
            name("name", "Robert'); DROP TABLE tenants;--").unwrap(),
            "Robert'); DROP TABLE tenants;--"
        );
        assert!(name("name", " ").is_err());
        assert!(name("name", "a\u{1b}[31m").is_err());
        assert!(name("name", &"é".repeat(200)).is_ok());
        assert!(name("name", &"é".repeat(201)).is_err());
    }
}
