//! Origins (RFC 6454): which may connect, and the CORS headers that follow (Fetch 3.2).
//!
//! Owns: the meaning of `--allowed-origins`. Knows: [`Head`] and [`Reply`]. Never knows: which request needs an origin.
//!
//! Decisions
//! - Scheme, host and port are compared, rather than the text, because an operator writes `https://App.example.com:443`
//!   for what browsers send as `https://app.example.com`.
//! - `*.` stands for whole labels below a domain rather than patterns within a label: what it trusts is what DNS
//!   delegates.
//! - A scheme may stand alone if it is an app's (`capacitor://`), because the app chooses the host. `https://` alone
//!   would trust the whole web and look like a restriction. `*` is the clear way to write that.

use std::borrow::Cow;

use super::authority::{self, Host};
use super::http::{Field, Head, Reply, Status, is_token};

mod fuzz;
#[doc(hidden)]
pub use fuzz::fuzz;

/// The origins that a browser may connect from: `--allowed-origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// `*`
    Any,
    Listed(Vec<Pattern>),
}

/// One item of `--allowed-origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This origin alone.
    Exactly(Origin),
    /// `capacitor://`: every origin of an app's scheme.
    Scheme(Box<str>),
    /// `https://*.example.com`: every host below the domain, at any depth, and not the domain itself.
    Below(Origin),
}

/// Where a page or an app comes from (RFC 6454 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `null`: a sandboxed frame, a local file.
    Null,
    /// A port that is the scheme's own is `None`; scheme and host are in lower case. Only an app's host may be empty.
    At {
        scheme: Box<str>,
        host: Box<str>,
        port: Option<u16>,
    },
}

impl Pattern {
    fn parse(item: &str) -> Option<Pattern> {
        if item == "null" {
            return Some(Pattern::Exactly(Origin::Null));
        }
        let (scheme, rest) = item.split_once("://")?;
        let below = rest.strip_prefix("*.");
        let place = below.unwrap_or(rest);
        if place.contains('*') {
            return None;
        }
        let origin = Origin::parse(&format!("{scheme}://{place}"))?;
        let Origin::At { scheme, host, port } = &origin else {
            return None;
        };
        match (below, &**host) {
            (Some(_), "") => None,
            // An address has nothing below it.
            (Some(_), host) if matches!(Host::parse(host), Some(Host::Ip(_))) => None,
            (Some(_), _) => Some(Pattern::Below(origin)),
            (None, "") => port.is_none().then(|| Pattern::Scheme(scheme.clone())),
            (None, _) => Some(Pattern::Exactly(origin)),
        }
    }

    fn matches(&self, origin: &Origin) -> bool {
        match (self, origin) {
            (Pattern::Exactly(listed), _) => listed == origin,
            (Pattern::Scheme(listed), Origin::At { scheme, .. }) => listed == scheme,
            (
                Pattern::Below(Origin::At {
                    scheme: listed,
                    host: domain,
                    port: at,
                }),
                Origin::At { scheme, host, port },
            ) => {
                let labels = host
                    .strip_suffix(&**domain)
                    .and_then(|labels| labels.strip_suffix('.'));
                (listed, at) == (scheme, port) && labels.is_some_and(|labels| !labels.is_empty())
            }
            (Pattern::Scheme(_) | Pattern::Below(_), _) => false,
        }
    }
}

impl Origin {
    /// `scheme://host[:port]` or `null`, and nothing else.
    fn parse(text: &str) -> Option<Origin> {
        if text == "null" {
            return Some(Origin::Null);
        }
        let (scheme, place) = text.split_once("://")?;
        let mut letters = scheme.bytes();
        let valid = letters.next()?.is_ascii_alphabetic()
            && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let scheme = Some(scheme.to_ascii_lowercase()).filter(|_| valid)?;
        let default = match scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        let (host, port) = match default {
            Some(_) => {
                let (host, port) = Host::with_port(place)?;
                (host.to_string(), port)
            }
            // The host of an app's origin need not be a name in DNS.
            None => {
                let (host, digits) = authority::split(place.as_bytes())?;
                let port = match digits {
                    Some(digits) => Some(authority::port(digits)?),
                    None => None,
                };
                (str::from_utf8(host).ok()?.to_owned(), port)
            }
        };
        Some(Origin::At {
            scheme: scheme.into(),
            host: host.to_ascii_lowercase().into(),
            port: port.filter(|_| port != default),
        })
    }
}

impl Origins {
    /// What `--allowed-origins` accepts, for an error message.
    pub const ACCEPTED: &str = "*, or a comma-separated list of origins: https://app.example.com, http://localhost:8080 \
                                (no path), https://*.example.com (everything below it), an app's scheme alone such as \
                                capacitor:// or file://, null";

    /// Reads the flag's value: `*`, or patterns with commas between them.
    ///
    /// # Errors
    /// The item that is not a pattern; empty if there are no items.
    pub fn parse(value: &str) -> Result<Origins, String> {
        let mut listed = Vec::new();
        let mut any = false;
        for item in value.split(',').map(str::trim).filter(|i| !i.is_empty()) {
            match Pattern::parse(item) {
                Some(pattern) => listed.push(pattern),
                None if item == "*" => any = true,
                None => return Err(item.to_owned()),
            }
        }
        match (any, listed.is_empty()) {
            (true, _) => Ok(Origins::Any),
            (false, false) => Ok(Origins::Listed(listed)),
            (false, true) => Err(String::new()),
        }
    }

    /// Whether a page of this origin may connect.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Origins::Any => true,
            Origins::Listed(listed) => Origin::parse(origin)
                .is_some_and(|origin| listed.iter().any(|pattern| pattern.matches(&origin))),
        }
    }

    /// Whether a request is admitted: it has no Origin, or one that is allowed. Unless all are allowed, two Origins are
    /// refused, because it is unknown which of them is meant.
    pub fn admit(&self, head: &Head) -> bool {
        let mut origins = head.headers_named("origin");
        match (self, origins.next(), origins.next()) {
            (Origins::Any, _, _) | (_, None, _) => true,
            (_, Some(origin), None) => str::from_utf8(origin).is_ok_and(|o| self.allows(o)),
            (_, Some(_), Some(_)) => false,
        }
    }

    /// The headers that let a page of an allowed origin read the reply (Fetch 3.2). `origin` is the request's header.
    pub fn cors(&self, origin: Option<&[u8]>) -> Vec<Field> {
        if *self == Origins::Any {
            return vec![("Access-Control-Allow-Origin", Cow::Borrowed("*"))];
        }
        // Vary also for an origin that is not allowed: a cache must not serve that reply to an allowed one.
        let mut headers = vec![("Vary", Cow::Borrowed("Origin"))];
        let origin = origin.and_then(|origin| str::from_utf8(origin).ok());
        if let Some(origin) = origin.filter(|origin| self.allows(origin)) {
            headers.push(("Access-Control-Allow-Origin", origin.to_owned().into()));
        }
        headers
    }

    /// The answer to `OPTIONS` (`docs/api.md#cors`): what a page of an allowed origin may send. `requested` are the
    /// headers it asks for. Those that are tokens are allowed: every header is harmless here, as the key is not a
    /// cookie.
    pub fn preflight<'a>(
        &self,
        origin: Option<&[u8]>,
        requested: impl Iterator<Item = &'a [u8]>,
    ) -> Reply {
        let mut headers = self.cors(origin);
        if headers
            .iter()
            .any(|(name, _)| *name == "Access-Control-Allow-Origin")
        {
            headers.push((
                "Access-Control-Allow-Methods",
                Cow::Borrowed("GET, HEAD, POST, OPTIONS"),
            ));
            let tokens: Vec<&str> = requested
                .filter(|name| is_token(name))
                .filter_map(|name| str::from_utf8(name).ok())
                .collect();
            if !tokens.is_empty() {
                headers.push(("Access-Control-Allow-Headers", tokens.join(", ").into()));
            }
            // A day, in seconds. Browsers apply lower limits of their own.
            headers.push(("Access-Control-Max-Age", Cow::Borrowed("86400")));
        }
        Reply {
            headers,
            ..Reply::empty(Status::NoContent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::parse_head;
    use super::*;

    #[test]
    fn origins_are_compared_as_browsers_send_them() {
        let origins = Origins::parse(
            "https://app.example.com, http://localhost:8080,HTTP://A.example:80,http://[::1]:3000,tauri://localhost",
        )
        .unwrap();
        for (origin, expected) in [
            ("https://app.example.com", true),
            ("https://app.example.com:443", true),
            ("HTTPS://APP.example.COM", true),
            ("http://app.example.com", false),
            ("https://app.example.com:8443", false),
            ("https://app.example.com.evil.org", false),
            ("https://evil.org/https://app.example.com", false),
            ("https://app.example.com/", false),
            ("https://user@app.example.com", false),
            ("https://xapp.example.com", false),
            ("http://localhost:8080", true),
            ("http://localhost", false),
            ("http://localhost:+8080", false),
            ("http://localhost:8080:8080", false),
            ("http://a.example", true),
            ("http://a.example:443", false),
            ("http://[::1]:3000", true),
            ("tauri://localhost", true),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(origins.allows(origin), expected, "{origin}");
        }
        let null = Origins::parse("null").unwrap();
        assert!(null.allows("null") && !null.allows("http://null"));
        for value in ["*", " * ", "https://a,*"] {
            let any = Origins::parse(value).unwrap();
            assert_eq!(any, Origins::Any);
            assert!(any.allows("null") && any.allows("what ever"));
        }
    }

    #[test]
    fn a_wildcard_is_every_host_below_a_domain() {
        let origins =
            Origins::parse("https://*.Example.com,http://*.localhost:3000,app://*.x").unwrap();
        for (origin, expected) in [
            ("https://a.example.com", true),
            ("https://a.b.c.example.com", true),
            ("https://A.EXAMPLE.COM:443", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://*.example.com", false),
            ("https://xexample.com", false),
            ("https://a.example.com.evil.org", false),
            ("https://a.example.com:8443", false),
            ("https://a.example.com/", false),
            ("https://evil.org/.example.com", false),
            ("https://evil.org?.example.com", false),
            ("https://evil.org#.example.com", false),
            ("https://evil.org%2F.example.com", false),
            ("https://evil.org@a.example.com", false),
            ("https://evil.org\\.example.com", false),
            ("http://a.example.com", false),
            ("wss://a.example.com", false),
            ("http://a.localhost:3000", true),
            ("http://a.localhost", false),
            ("http://localhost:3000", false),
            ("app://a.x", true),
            ("app://x", false),
            ("null", false),
        ] {
            assert_eq!(origins.allows(origin), expected, "{origin}");
        }
    }

    #[test]
    fn an_apps_scheme_alone_is_any_host_of_it() {
        let origins = Origins::parse("file://,Capacitor://").unwrap();
        for (origin, expected) in [
            ("file://", true),
            ("FILE://", true),
            ("file://localhost", true),
            ("file:///", false),
            ("file:", false),
            ("capacitor://localhost", true),
            ("capacitor://", true),
            ("capacitor://any_thing~else:8080", true),
            ("capacitor://0", true),
            ("capacitor://a/b", false),
            ("capacitors://localhost", false),
            ("ionic://localhost", false),
            ("https://capacitor", false),
            ("https://", false),
            ("null", false),
        ] {
            assert_eq!(origins.allows(origin), expected, "{origin}");
        }
        let one = Origins::parse("capacitor://localhost,chrome-extension://0123").unwrap();
        assert!(one.allows("capacitor://localhost") && one.allows("chrome-extension://0123"));
        assert!(!one.allows("capacitor://other") && !one.allows("capacitor://"));
    }

    #[test]
    fn an_item_that_is_no_origin_is_the_error() {
        for item in [
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://",
            "http://",
            "ws://",
            "WSS://",
            "https://*",
            "https://*.",
            "https://*.*.example.com",
            "https://a.*.example.com",
            "https://a*.example.com",
            "https://*example.com",
            "https://*.127.0.0.1",
            "https://*.[::1]",
            "https://*.example.com/",
            "*.example.com",
            "*://example.com",
            "app://*",
            "app://*.",
            "app://:80",
            "file:///",
            "file:",
            "://a",
            "1http://a",
            "http://a:",
            "http://a:99999",
            "http://a:b",
            "http://a b",
            "http://u@a",
            "http://a;http://b",
            "http://1.2.3",
            "http://bücher.example",
            "Null",
        ] {
            let value = format!("https://a.example, {item},null");
            assert_eq!(Origins::parse(&value), Err(item.to_owned()));
        }
        for empty in ["", " , "] {
            assert_eq!(Origins::parse(empty), Err(String::new()));
        }
    }

    #[test]
    fn a_request_is_admitted_by_its_origin() {
        let listed = Origins::parse("https://a.example").unwrap();
        for (headers, by_list) in [
            ("", true),
            ("Origin: https://a.example\r\n", true),
            ("Origin: https://b.example\r\n", false),
            ("Origin:\r\n", false),
            (
                "Origin: https://a.example\r\nOrigin: https://a.example\r\n",
                false,
            ),
            ("Origin: https://a.example, https://a.example\r\n", false),
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
            let (head, _) = parse_head(text.as_bytes()).unwrap().unwrap();
            assert_eq!(listed.admit(&head), by_list, "{headers}");
            assert!(Origins::Any.admit(&head), "{headers}");
        }
    }

    #[test]
    fn cors_headers_follow_the_origins() {
        let shown = |origins: &str, origin: Option<&str>| {
            let origins = Origins::parse(origins).unwrap();
            let origin = origin.map(str::as_bytes);
            let headers: Vec<String> = origins
                .cors(origin)
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            let preflight = origins.preflight(origin, [&b"x-custom"[..]].into_iter());
            assert_eq!(preflight.status, Status::NoContent);
            assert!(preflight.headers.starts_with(&origins.cors(origin)));
            let further = preflight.headers.len() - headers.len();
            (headers.join("|"), further)
        };
        let star = ("Access-Control-Allow-Origin: *".to_owned(), 3);
        assert_eq!(shown("*", None), star);
        assert_eq!(shown("*", Some("https://a")), star);
        assert_eq!(
            shown("https://a", Some("https://A")),
            (
                "Vary: Origin|Access-Control-Allow-Origin: https://A".to_owned(),
                3
            )
        );
        for origin in [None, Some("https://b"), Some("null")] {
            assert_eq!(shown("https://a", origin), ("Vary: Origin".to_owned(), 0));
        }
    }

    #[test]
    fn a_preflight_allows_the_requested_headers_that_are_tokens() {
        for (requested, allowed) in [
            ("", None),
            ("Access-Control-Request-Headers:\r\n", None),
            (
                "Access-Control-Request-Headers: content-type,X-Custom\r\n",
                Some("content-type, X-Custom"),
            ),
            (
                "Access-Control-Request-Headers: a\r\naccess-control-request-headers: ,b ,!#$%&'*+-.^_`|~\r\n",
                Some("a, b, !#$%&'*+-.^_`|~"),
            ),
            (
                "Access-Control-Request-Headers: a b, c/d, \"e\", f:g, <h>, ü, authorization, *\r\n",
                Some("authorization, *"),
            ),
            ("Access-Control-Request-Headers: a b\r\n", None),
        ] {
            let text = format!("OPTIONS / HTTP/1.1\r\nHost: h\r\n{requested}\r\n");
            let (head, _) = parse_head(text.as_bytes()).unwrap().unwrap();
            let listed = Origins::parse("https://a").unwrap();
            let answered = |origins: &Origins, origin: &str| {
                let asked = head.list("access-control-request-headers");
                let reply = origins.preflight(Some(origin.as_bytes()), asked);
                let named = |(name, value): &Field| {
                    (*name == "Access-Control-Allow-Headers").then(|| value.to_string())
                };
                reply.headers.iter().find_map(named)
            };
            for found in [
                answered(&Origins::Any, "null"),
                answered(&listed, "https://a"),
            ] {
                assert_eq!(found.as_deref(), allowed, "{requested}");
            }
            assert_eq!(answered(&listed, "https://b"), None, "{requested}");
        }
    }
}
