//! Who a browser may speak for: origins (RFC 6454), and the CORS headers that follow from them (Fetch 3.2).
//!
//! Owns: the meaning of `--allowed-origins`. Knows: [`Head`] and [`Reply`]. Never knows: which request needs an origin.
//!
//! Decisions
//! - Scheme, host and port are compared, over the text, because an operator writes `https://App.example.com:443` for
//!   what browsers send as `https://app.example.com`. There are no wildcards: `*.example.com` trusts every host that
//!   is ever put there. Reconsider when users ask for one.

use std::borrow::Cow;

use super::http::{Field, Head, Reply, Status, split_authority};

/// The origins that a browser may come from: `--allowed-origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// `*`
    Any,
    Listed(Vec<Origin>),
}

/// Who a browser says it speaks for (RFC 6454 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `null`: a sandboxed frame, a local file.
    Null,
    /// A port that is the scheme's own is `None`; scheme and host are in lower case.
    At {
        scheme: Box<str>,
        host: Box<str>,
        port: Option<u16>,
    },
}

impl Origin {
    /// `scheme://host[:port]` or `null`, and nothing else.
    fn parse(text: &str) -> Option<Origin> {
        if text == "null" {
            return Some(Origin::Null);
        }
        let (scheme, authority) = text.split_once("://")?;
        let mut letters = scheme.bytes();
        let valid = letters.next()?.is_ascii_alphabetic()
            && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (host, port) = split_authority(authority.as_bytes())?;
        if !valid || host.is_empty() || host.contains(&b'*') {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let port = match port {
            None => None,
            Some(digits) => Some(str::from_utf8(digits).ok()?.parse::<u16>().ok()?),
        };
        let default = match scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        };
        Some(Origin::At {
            scheme: scheme.into(),
            host: str::from_utf8(host).ok()?.to_ascii_lowercase().into(),
            port: port.filter(|_| port != default),
        })
    }
}

impl Origins {
    /// Reads the flag's value: `*`, or origins with commas between them.
    ///
    /// # Errors
    /// A sentence that names the entry which is no origin, and says what is accepted.
    pub fn parse(value: &str) -> Result<Origins, String> {
        const ACCEPTED: &str = "write * or, with commas between them, origins as browsers send them: \
                                https://app.example.com, http://localhost:8080 (no path, no wildcard), or null";
        let mut listed = Vec::new();
        let mut any = false;
        for entry in value.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            match Origin::parse(entry) {
                Some(origin) => listed.push(origin),
                None if entry == "*" => any = true,
                None => return Err(format!("\"{entry}\" is no origin: {ACCEPTED}")),
            }
        }
        match (any, listed.is_empty()) {
            (true, _) => Ok(Origins::Any),
            (false, false) => Ok(Origins::Listed(listed)),
            (false, true) => Err(format!("there is no origin in \"{value}\": {ACCEPTED}")),
        }
    }

    /// Whether a page of this origin may come.
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Origins::Any => true,
            Origins::Listed(listed) => {
                Origin::parse(origin).is_some_and(|origin| listed.contains(&origin))
            }
        }
    }

    /// Whether this request may come: it has no Origin, so it is no browser's, or one that is allowed. Where only some
    /// are, two Origins are none: it cannot be known which of them is meant.
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
        // Vary also where there is nothing to allow: a cache must not hand that reply to an allowed origin.
        let mut headers = vec![("Vary", Cow::Borrowed("Origin"))];
        let origin = origin.and_then(|origin| str::from_utf8(origin).ok());
        if let Some(origin) = origin.filter(|origin| self.allows(origin)) {
            headers.push(("Access-Control-Allow-Origin", origin.to_owned().into()));
        }
        headers
    }

    /// The answer to `OPTIONS` (CONTRACT §3): what a page of an allowed origin may send.
    pub fn preflight(&self, origin: Option<&[u8]>) -> Reply {
        let mut headers = self.cors(origin);
        if headers
            .iter()
            .any(|(name, _)| *name == "Access-Control-Allow-Origin")
        {
            headers.extend([
                (
                    "Access-Control-Allow-Methods",
                    Cow::Borrowed("GET, HEAD, POST, OPTIONS"),
                ),
                (
                    "Access-Control-Allow-Headers",
                    Cow::Borrowed("Content-Type, Authorization"),
                ),
                // A day, in seconds; browsers take less where they think it too long.
                ("Access-Control-Max-Age", Cow::Borrowed("86400")),
            ]);
        }
        Reply {
            headers,
            ..Reply::empty(Status::NoContent)
        }
    }
}

/// What must hold for any flag and any origin; the fuzz target and the replayed corpus call it. Panics where it does
/// not.
///
/// The first line is the flag's value, what follows is the origin.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Some((flag, origin)) = str::from_utf8(bytes).ok().and_then(|t| t.split_once('\n')) else {
        return;
    };
    let Ok(origins) = Origins::parse(flag) else {
        return;
    };
    let entries = flag.split(',').map(str::trim).filter(|e| !e.is_empty());
    for entry in entries {
        // What the operator wrote may come, in capitals too; and nothing that goes on behind it.
        assert!(origins.allows(entry) || entry == "*");
        assert!(origins.allows(&entry.to_ascii_uppercase()) || entry == "null");
        if origins != Origins::Any {
            assert!(!origins.allows(&format!("{entry}/")));
        }
    }
    let allowed = origins.allows(origin);
    let echoed = origins.cors(Some(origin.as_bytes()));
    let preflight = origins.preflight(Some(origin.as_bytes()));
    assert_eq!(preflight.headers.len() > echoed.len(), allowed);
    let echoed = echoed
        .iter()
        .find(|(name, _)| *name == "Access-Control-Allow-Origin");
    match (&origins, echoed) {
        (Origins::Any, echoed) => assert_eq!(echoed.map(|(_, value)| &**value), Some("*")),
        (Origins::Listed(_), Some((_, value))) => {
            assert!(allowed && value == origin && !value.contains(['\r', '\n', ' ']));
        }
        (Origins::Listed(_), None) => assert!(!allowed),
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
    fn a_flag_that_is_no_origin_is_named() {
        for entry in [
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://*.example.com",
            "https://",
            "://a",
            "1http://a",
            "http://a:99999",
            "http://a:b",
            "http://bücher.example",
            "Null",
        ] {
            let error = Origins::parse(&format!("https://a.example,{entry}")).unwrap_err();
            assert!(
                error.starts_with(&format!("\"{entry}\" is no origin: ")),
                "{error}"
            );
        }
        for empty in ["", " , "] {
            assert!(Origins::parse(empty).is_err());
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
            let preflight = origins.preflight(origin);
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
}
