//! A webhook's URL: checked once, its credentials kept apart.
//!
//! Owns: what such a URL may be, and how one is shown. Knows: RFC 3986 as far as `http::Uri` does not, RFC 7617.
//! Never knows: the network, nor what is done with it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::{HeaderValue, Uri};

use crate::wire::authority;

/// A webhook's URL, checked. Credentials in it (`http://user:pass@host/`) are kept apart, sent as
/// `Authorization: Basic` (percent-decoded), and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    pub(super) uri: Uri,
    pub(super) credentials: Option<HeaderValue>,
}

impl Url {
    pub(super) fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Without the brackets of an IPv6 address.
    pub(super) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        let default = if self.is_https() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(default)
    }
}

/// For the log: without credentials, and with `***` for what its query holds.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_query(&self.uri.to_string()))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl FromStr for Url {
    /// What is wrong with the text, which may hold a password and is not repeated.
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        parse_url(text)
    }
}

fn parse_url(text: &str) -> Result<Url, String> {
    let (scheme, rest) = text.split_once("://").ok_or("no scheme")?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return Err("the scheme is neither http nor https".into());
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(basic(credentials)?), place),
        None => (None, authority),
    };
    let (host, port) =
        authority::split(place.as_bytes()).ok_or("the host or the port is malformed")?;
    if host.is_empty() {
        return Err("no host".into());
    }
    if port.is_some_and(|digits| authority::port(digits).is_none_or(|port| port == 0)) {
        return Err("the port is not a number from 1 to 65535".into());
    }
    let uri: Uri = format!("{scheme}://{place}{path}")
        .parse()
        .map_err(|error| format!("{error}"))?;
    Ok(Url { uri, credentials })
}

/// RFC 7617: `user:pass`, each percent-decoded, in base64.
fn basic(credentials: &str) -> Result<HeaderValue, String> {
    let (user, pass) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut plain: Vec<u8> = percent_encoding::percent_decode_str(user).collect();
    plain.push(b':');
    plain.extend(percent_encoding::percent_decode_str(pass));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(plain)))
        .map_err(|_| "the credentials cannot be sent")?;
    value.set_sensitive(true);
    Ok(value)
}

fn redact_query(url: &str) -> String {
    let Some((place, query)) = url.split_once('?') else {
        return url.into();
    };
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) => format!("{name}=***"),
            None => "***".into(),
        })
        .collect();
    format!("{place}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_urls_are_validated_and_redacted() {
        for (text, redacted) in [
            ("http://host", "http://host/"),
            ("HTTPS://host:8443/a?b=c&d", "https://host:8443/a?b=***&***"),
            ("http://u:p@host/@me", "http://host/@me"),
            ("http://u:p@[::1]:80/?x", "http://[::1]:80/?***"),
            ("http://my_host.local?x=1", "http://my_host.local/?x=***"),
            ("http://a@b@host/", "http://host/"),
            ("http://host/a#b", "http://host/a"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(url.to_string(), redacted);
            assert_eq!(format!("{url:?}"), format!("Url({redacted})"));
        }
        for (text, why) in [
            ("", "no scheme"),
            ("host:80", "no scheme"),
            ("ftp://u:secret@host/", "neither http nor https"),
            ("http://", "no host"),
            ("http:///path", "no host"),
            ("http://u:secret@/path", "no host"),
            ("http://:80/", "no host"),
            ("http://[]/", "malformed"),
            ("http://host:/", "the port"),
            ("http://host:0/", "the port"),
            ("http://host:65536/", "the port"),
            ("http://host:80:80/", "malformed"),
            ("http://host/a b", "invalid"),
            (" http://host/", "neither http nor https"),
            ("http://u:secret/x@host:99999/", "the port"),
            ("http://u:sec#ret@host/", "the port"),
            ("http://u:p@secret@host:0/", "the port"),
            ("http://u:secret@host:x/?k=secret", "the port"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("sec"), "{error}");
        }
    }

    #[test]
    fn addresses_of_urls() {
        for (text, host, port) in [
            ("http://host", "host", 80),
            ("https://host", "host", 443),
            ("https://host:80", "host", 80),
            ("http://[::1]:8080", "::1", 8080),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port));
        }
    }
}
