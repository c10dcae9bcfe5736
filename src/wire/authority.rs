//! `host[:port]` (RFC 3986 3.2): in a request's target and `Host`, in an origin, in the flags that name a place.
//!
//! Owns: which texts are a host and which a port. Never knows: what the place is used for.
//!
//! Decisions
//! - Two readings of a host. [`split`] takes every `reg-name`, because a client may use any name for this server.
//!   [`Host`] takes what can be looked up in DNS, because an operator's typing error must not become a name.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host that can be looked up or connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Host {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &str) -> Option<Host> {
        if let Some(inner) = text.strip_prefix('[') {
            let ip: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
            return Some(Host::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Some(Host::Ip(ip.into()));
        }
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        // A last label of digits alone is a malformed IPv4 address (WHATWG URL §3.5), not a name to look up.
        let last = text.trim_end_matches('.').rsplit('.').next()?;
        let numeric = last.bytes().all(|b| b.is_ascii_digit());
        (text.len() <= 253 && !numeric && text.bytes().all(valid))
            .then(|| Host::Name(text.to_owned()))
    }

    /// Reads `host[:port]`.
    pub fn with_port(authority: &str) -> Option<(Host, Option<u16>)> {
        let (host, digits) = split(authority.as_bytes())?;
        let host = Host::parse(str::from_utf8(host).ok()?)?;
        match digits {
            None => Some((host, None)),
            Some(digits) => Some((host, Some(port(digits)?))),
        }
    }
}

/// As in a URL: an IPv6 address in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// A port's number. The standard library would take a sign as well.
pub fn port(digits: &[u8]) -> Option<u16> {
    let all = digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| all)?.parse().ok()
}

/// `host[:port]` (RFC 3986 3.2) in its parts, if it is valid; the host may be empty, as in `Host:` (RFC 9110 7.2).
/// The host keeps its brackets; the port is digits and may be empty or too large, see [`port`].
pub fn split(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let end = if let [b'[', inside @ ..] = authority {
        let end = memchr::memchr(b']', inside)?;
        let literal = str::from_utf8(inside.get(..end)?).ok()?;
        literal.parse::<Ipv6Addr>().ok()?;
        // The brackets are the host's.
        end.checked_add(2)?
    } else {
        let end = authority.iter().position(|&byte| byte == b':');
        let end = end.unwrap_or(authority.len());
        valid_name(authority.get(..end)?).then_some(end)?
    };
    let (host, rest) = authority.split_at_checked(end)?;
    match rest {
        [] => Some((host, None)),
        [b':', port @ ..] if port.iter().all(u8::is_ascii_digit) => Some((host, Some(port))),
        _ => None,
    }
}

/// Whether this is a `reg-name` (RFC 3986 3.2.2), which IPv4 addresses are too.
fn valid_name(name: &[u8]) -> bool {
    // A '%' and two digits are one character.
    let mut parts = name.split(|&byte| byte == b'%');
    parts.next().is_none_or(is_plain)
        && parts.all(|part| match part {
            [high, low, rest @ ..] => {
                high.is_ascii_hexdigit() && low.is_ascii_hexdigit() && is_plain(rest)
            }
            _ => false,
        })
}

fn is_plain(name: &[u8]) -> bool {
    name.iter()
        .all(|&byte| PLAIN.get(usize::from(byte)).is_some_and(|plain| *plain))
}

/// Which bytes may stand in a name as they are: every request names its host.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated when it is compiled; a byte is below 256"
)]
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut rest: &[u8] =
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~!$&'()*+,;=";
    while let [byte, others @ ..] = rest {
        plain[*byte as usize] = true;
        rest = others;
    }
    plain
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        type Parts<'a> = Option<(&'a str, Option<&'a str>)>;
        let table: &[(&str, Parts)] = &[
            ("", Some(("", None))),
            ("host", Some(("host", None))),
            ("host:80", Some(("host", Some("80")))),
            ("host:", Some(("host", Some("")))),
            (
                "h%2Dst!$&'()*+,;=_~:1",
                Some(("h%2Dst!$&'()*+,;=_~", Some("1"))),
            ),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:99999", Some(("[::1]", Some("99999")))),
            ("host:x", None),
            ("host:+1", None),
            ("a:b:1", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[1.2.3.4]", None),
            ("[]", None),
            ("u@host", None),
            ("ho st", None),
            ("h%2", None),
            ("h%zz", None),
            ("bücher.example", None),
        ];
        for (text, expected) in table {
            let found = split(text.as_bytes()).map(|(host, port)| {
                let port = port.map(|port| str::from_utf8(port).unwrap());
                (str::from_utf8(host).unwrap(), port)
            });
            assert_eq!(found, *expected, "{text}");
        }
    }

    #[test]
    fn a_host_can_be_looked_up() {
        for (text, shown, port) in [
            ("localhost", "localhost", None),
            ("my_host.example.com.:0", "my_host.example.com.", Some(0)),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("[0:0::1]:1", "[::1]", Some(1)),
        ] {
            let (host, found) = Host::with_port(text).unwrap();
            assert_eq!((host.to_string().as_str(), found), (shown, port), "{text}");
        }
        let long = "x".repeat(254);
        for text in [
            "",
            ":1",
            "host:",
            "host:65536",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "[]",
            "[::1",
            "*.host",
            "h%20",
            "a;b",
            &long,
        ] {
            assert_eq!(Host::with_port(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_may_hold_what_needs_no_encoding_and_what_is_encoded() {
        for byte in 0..=u8::MAX {
            let fits = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
            assert_eq!(valid_name(&[b'a', byte]), fits, "{byte:#x}");
        }
        for good in ["", "%41", "a%2Fb%c3", "%25%25"] {
            assert!(valid_name(good.as_bytes()), "{good}");
        }
        for bad in [
            "%", "a%", "%4", "a%4", "%4g", "%g4", "%41%", "%41%4", "%%41", "%41 ",
        ] {
            assert!(!valid_name(bad.as_bytes()), "{bad}");
        }
    }
}
