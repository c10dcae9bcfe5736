//! `--broker-dsn`: where redis is, and the credentials it is sent.
//!
//! Owns: the forms that are accepted, which are those of the Go client that v3 uses, and how a DSN is shown without its
//! secrets. Knows: URLs. Never knows: how a connection is made.
//!
//! Decision: options in the query that have no meaning here are ignored and named in one warning, over refusing them.
//! They tune a connection pool that does not exist, and a DSN that worked with v3 has to work unchanged.

use std::fmt;
use std::path::PathBuf;

use super::values::digits;
use crate::secret::Secret;
use crate::wire::authority::{self, Host};

const ACCEPTED: &str = "redis://[user:pass@]host[:port][/db], rediss://... or unix:///path[?db=0], needed with the \
    redis driver; user and pass percent-encoded";
const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 6379;

/// Where redis is and the credentials it is sent. `Display` shows neither user nor password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisDsn {
    pub address: RedisAddress,
    pub credentials: Option<Credentials>,
    pub db: u32,
    /// Names of the parts that have no effect.
    pub unused: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Without a user, redis' own `default` is meant.
    pub user: Option<String>,
    pub password: Secret,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisAddress {
    Tcp {
        /// A name or an address; an IPv6 one without its brackets.
        host: String,
        port: u16,
        /// `rediss://`.
        tls: bool,
    },
    Unix(PathBuf),
}

impl fmt::Display for RedisDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let db = self.db;
        match &self.address {
            RedisAddress::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}/{db}"),
                    false => write!(f, "{scheme}://{host}:{port}/{db}"),
                }
            }
            RedisAddress::Unix(path) => write!(f, "unix://{}?db={db}", path.display()),
        }
    }
}

/// Reads a DSN.
///
/// # Errors
/// What is accepted instead.
pub(super) fn parse(text: &str) -> Result<RedisDsn, String> {
    let parsed = text.split_once(':').and_then(|(scheme, rest)| {
        let by_scheme = |rest| match scheme.to_ascii_lowercase().as_str() {
            "redis" => tcp(rest, false),
            "rediss" => tcp(rest, true),
            "unix" => unix(rest),
            _ => None,
        };
        // A '?' begins the query; in a password that was not encoded it does not, and then no options follow it.
        let split = rest.split_once('?').and_then(|(before, query)| {
            let mut dsn = by_scheme(before)?;
            apply(&mut dsn, query)?;
            Some(dsn)
        });
        split.or_else(|| by_scheme(rest))
    });
    parsed.ok_or_else(|| ACCEPTED.to_owned())
}

/// `//[user:pass@][host][:port][/[db][/]]`
fn tcp(rest: &str, tls: bool) -> Option<RedisDsn> {
    let rest = rest.strip_prefix("//")?;
    // The last '@': no host or number holds one, and a password that was not encoded may.
    let (credentials, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    let db = match path.strip_suffix('/').unwrap_or(path) {
        "" => 0,
        db => digits(db)?.parse().ok()?,
    };
    // The colons of an IPv6 address lie within its brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, "")) => (host, DEFAULT_PORT),
        Some((host, number)) if !number.ends_with(']') => {
            (host, authority::port(number.as_bytes())?)
        }
        _ => (authority, DEFAULT_PORT),
    };
    let host = match host {
        "" => DEFAULT_HOST.to_owned(),
        host => match Host::parse(host)? {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name,
        },
    };
    let port = Some(port).filter(|&port| port != 0)?;
    with_credentials(RedisAddress::Tcp { host, port, tls }, credentials, db)
}

/// `[//[user:pass@]]/path`
fn unix(rest: &str) -> Option<RedisDsn> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (credentials, path) = match rest.starts_with('/') {
        true => ("", rest),
        false => rest.split_at_checked(rest.find("@/")?)?,
    };
    let path = path.trim_start_matches('@');
    if path.contains('?') {
        return None;
    }
    let path = percent_decoded(path)?;
    // A path ends with a file's name, and the system ends it at a NUL.
    if path.ends_with('/') || path.contains('\0') {
        return None;
    }
    with_credentials(RedisAddress::Unix(path.into()), credentials, 0)
}

fn with_credentials(address: RedisAddress, credentials: &str, db: u32) -> Option<RedisDsn> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (user, password) = (percent_decoded(user)?, percent_decoded(password)?);
    let mut dsn = RedisDsn {
        address,
        credentials: None,
        db,
        unused: Vec::new(),
    };
    if !password.is_empty() {
        dsn.credentials = Some(Credentials {
            user: (!user.is_empty()).then_some(user),
            password: Secret::new(password),
        });
    } else if !user.is_empty() {
        dsn.unused.push("the user (it has no password)".to_owned());
    }
    Some(dsn)
}

/// The options of the query: `name=value`, joined by `&`.
fn apply(dsn: &mut RedisDsn, query: &str) -> Option<()> {
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=')?;
        let valid = |b: u8| b.is_ascii_lowercase() || b == b'_';
        if name.is_empty() || !name.bytes().all(valid) {
            return None;
        }
        match name {
            "db" => dsn.db = digits(value)?.parse().ok()?,
            other if dsn.unused.iter().any(|name| name == other) => {}
            other => dsn.unused.push(other.to_owned()),
        }
    }
    Some(())
}

/// RFC 3986 2.1; unlike in a form, a plus is a plus.
fn percent_decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut decoded = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2)?;
        let hex = hex.bytes().all(|b| b.is_ascii_hexdigit()).then_some(hex)?;
        decoded.push(u8::from_str_radix(hex, 16).ok()?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a DSN means, in short: what `Display` shows, the user, the password, what has no effect.
    fn read(text: &str) -> [String; 4] {
        let dsn = parse(text).expect(text);
        let credentials = dsn.credentials.as_ref();
        let user = credentials.and_then(|c| c.user.clone());
        let password = credentials.map_or("", |c| c.password.expose());
        [
            dsn.to_string(),
            user.unwrap_or_default(),
            password.to_owned(),
            dsn.unused.join(", "),
        ]
    }

    #[test]
    fn accepted_dsns() {
        for (text, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://localhost:6379/", "redis://localhost:6379/0"),
            ("redis://localhost:6379/0", "redis://localhost:6379/0"),
            ("REDIS://h", "redis://h:6379/0"),
            ("Rediss://h:1/2", "rediss://h:1/2"),
            ("redis://", "redis://localhost:6379/0"),
            ("redis:///1", "redis://localhost:6379/1"),
            ("redis://:6380", "redis://localhost:6380/0"),
            ("redis://h:", "redis://h:6379/0"),
            ("redis://h/1/", "redis://h:6379/1"),
            ("redis://[::1]:7000/3", "redis://[::1]:7000/3"),
            ("redis://[::1]", "redis://[::1]:6379/0"),
            ("redis://h?db=4", "redis://h:6379/4"),
            ("redis://h/3?db=4&", "redis://h:6379/4"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
            ("UNIX:///run/r.sock?db=7", "unix:///run/r.sock?db=7"),
            ("unix:/run/a%20b@c", "unix:///run/a b@c?db=0"),
        ] {
            assert_eq!(read(text), [shown, "", "", ""], "{text}");
        }
    }

    #[test]
    fn credentials() {
        for (text, user, password) in [
            ("rediss://us%65r:p%40s+s@[::1]:7000/3", "user", "p@s+s"),
            ("redis://:p@ss/w@10.0.0.1", "", "p@ss/w"),
            ("redis://u:p%3a%3F@h?db=1", "u", "p:?"),
            ("redis://u:p:q@", "u", "p:q"),
            // No option: the '?' is the password's.
            ("redis://:p?q@h", "", "p?q"),
            ("redis://u:1?2@h/1", "u", "1?2"),
            ("redis://:p?db=1@h", "", "p?db=1"),
            ("unix://:p@/run/redis.sock", "", "p"),
            ("unix://u:p%2f@/run/redis.sock?db=1", "u", "p/"),
        ] {
            let [_, is_user, is_password, unused] = read(text);
            assert_eq!([&is_user, &is_password, &unused], [user, password, ""]);
        }
    }

    #[test]
    fn parts_without_effect_are_named_without_their_values() {
        let unused = |text| read(text)[3].clone();
        let v3s =
            "redis://h?pool_size=10&read_timeout=3s&protocol=3&client_name=a@b&db=1&pool_size=5";
        assert_eq!(
            unused(v3s),
            "pool_size, read_timeout, protocol, client_name"
        );
        assert_eq!(read(v3s)[0], "redis://h:6379/1");
        assert_eq!(unused("redis://name@h"), "the user (it has no password)");
        assert_eq!(unused("redis://name:@h"), unused("redis://name@h"));
        assert_eq!(read("redis://name@h")[1], "");
    }

    #[test]
    fn refused_dsns() {
        for text in [
            "",
            "nonsense",
            "http://host",
            "redis:host",
            "redis:/host",
            "redis://h:0",
            "redis://h:65536",
            "redis://h/x",
            "redis://h/1/2",
            "redis://h/-1",
            "redis://%zz@h",
            "redis://:%e@h",
            "redis://:%ff@h",
            "redis://h?db",
            "redis://h?db=x",
            "redis://h?db=-1",
            "redis://h?=1",
            "redis://h?Db=1",
            "redis://h#f",
            "redis://[::1",
            "unix://",
            "unix:",
            "unix:relative",
            "unix://host/run/redis.sock",
            "unix:///run/",
            "unix:///run/%00",
            "unix:///run/r.sock?db=x",
            "redis-sentinel://h/mymaster",
        ] {
            assert_eq!(parse(text), Err(ACCEPTED.to_owned()), "{text}");
        }
    }
}
