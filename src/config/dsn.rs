//! `--broker-dsn`: where redis is, and the credentials it is sent.
//!
//! Owns: the forms that are accepted, which are those of the Go client that v3 uses, and how a DSN is shown without its
//! secrets. Knows: URLs. Never knows: how a connection is made.
//!
//! Decision: options in the query that have no meaning here are ignored and named in one warning, rather than refusing
//! them. They tune a connection pool that does not exist, and a DSN that worked with v3 has to work unchanged.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::values::digits;
use crate::secret::Secret;
use crate::wire::authority::{self, Host};

const ACCEPTED: &str = "redis://[user:pass@]host[:port][/db], rediss://..., unix:///path[?db=0], \
    redis-sentinel://[user:pass@]host[:port],.../master[/db], redis-cluster://[user:pass@]host[:port],..., \
    rediss-sentinel://... or rediss-cluster://..., needed with the redis driver; user and pass percent-encoded";
const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// Where redis is and the credentials it is sent. `Display` shows neither user nor password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisDsn {
    pub servers: RedisServers,
    /// The scheme begins with `rediss`.
    pub tls: bool,
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

/// Which servers make up redis. Lists are not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    One(RedisAddress),
    Sentinel {
        sentinels: Vec<RedisAddress>,
        /// What the sentinels call it.
        master: String,
        /// What the sentinels are sent.
        credentials: Option<Credentials>,
    },
    /// Some of the cluster's nodes.
    Cluster(Vec<RedisAddress>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedisAddress {
    Tcp {
        /// A name or an address; an IPv6 one without its brackets.
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RedisAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            RedisAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            RedisAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for RedisDsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (db, scheme) = (self.db, if self.tls { "rediss" } else { "redis" });
        let list = |addresses: &[RedisAddress]| {
            let addresses: Vec<String> = addresses.iter().map(RedisAddress::to_string).collect();
            addresses.join(",")
        };
        match &self.servers {
            RedisServers::One(address @ RedisAddress::Unix(_)) => {
                write!(f, "unix://{address}?db={db}")
            }
            RedisServers::One(address) => write!(f, "{scheme}://{address}/{db}"),
            RedisServers::Sentinel {
                sentinels, master, ..
            } => write!(f, "{scheme}-sentinel://{}/{master}/{db}", list(sentinels)),
            RedisServers::Cluster(seeds) => write!(f, "{scheme}-cluster://{}", list(seeds)),
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
            "redis" => one(rest, false),
            "rediss" => one(rest, true),
            "redis-sentinel" => sentinel(rest, false),
            "rediss-sentinel" => sentinel(rest, true),
            "redis-cluster" => cluster(rest, false),
            "rediss-cluster" => cluster(rest, true),
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
fn one(rest: &str, tls: bool) -> Option<RedisDsn> {
    let (credentials, authority, path) = parts(rest)?;
    let address = RedisServers::One(address(authority, DEFAULT_PORT)?);
    let db = database(path)?;
    with_credentials(address, tls, credentials, db)
}

/// `//[user:pass@]host[:port],.../master[/[db][/]]`
fn sentinel(rest: &str, tls: bool) -> Option<RedisDsn> {
    let (credentials, authority, path) = parts(rest)?;
    let sentinels = addresses(authority, DEFAULT_SENTINEL_PORT)?;
    let (master, path) = path.split_once('/').unwrap_or((path, ""));
    let master = percent_decoded(master).filter(|name| !name.is_empty())?;
    let servers = RedisServers::Sentinel {
        sentinels,
        master,
        credentials: None,
    };
    with_credentials(servers, tls, credentials, database(path)?)
}

/// `//[user:pass@]host[:port],...[/[0][/]]`: a cluster has one database.
fn cluster(rest: &str, tls: bool) -> Option<RedisDsn> {
    let (credentials, authority, path) = parts(rest)?;
    let seeds = RedisServers::Cluster(addresses(authority, DEFAULT_PORT)?);
    let db = database(path).filter(|&db| db == 0)?;
    with_credentials(seeds, tls, credentials, db)
}

/// What is before the last '@', the authority, and what follows its '/'.
fn parts(rest: &str) -> Option<(&str, &str, &str)> {
    let rest = rest.strip_prefix("//")?;
    // The last '@': no host or number holds one, and a password that was not encoded may.
    let (credentials, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    // Options that cannot be used are no part of a name: they may hold a password, and the name is shown.
    if place.contains(['?', '#']) {
        return None;
    }
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    Some((credentials, authority, path))
}

fn database(path: &str) -> Option<u32> {
    match path.strip_suffix('/').unwrap_or(path) {
        "" => Some(0),
        db => digits(db)?.parse().ok(),
    }
}

/// One after another, each once. Only one that stands alone may be empty.
fn addresses(list: &str, default_port: u16) -> Option<Vec<RedisAddress>> {
    let mut all = Vec::new();
    for item in list.split(',') {
        if item.is_empty() && !list.is_empty() {
            return None;
        }
        let address = address(item, default_port)?;
        if !all.contains(&address) {
            all.push(address);
        }
    }
    Some(all)
}

/// `[host][:port]`
fn address(authority: &str, default_port: u16) -> Option<RedisAddress> {
    // The colons of an IPv6 address lie within its brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, "")) => (host, default_port),
        Some((host, number)) if !number.ends_with(']') => {
            (host, authority::port(number.as_bytes())?)
        }
        _ => (authority, default_port),
    };
    let host = match host {
        "" => DEFAULT_HOST.to_owned(),
        host => match with_zone(host) {
            Some(zoned) => zoned,
            None => match Host::parse(host)? {
                Host::Ip(ip) => ip.to_string(),
                Host::Name(name) => name,
            },
        },
    };
    (port != 0).then_some(RedisAddress::Tcp { host, port })
}

/// An IPv6 address with the interface that it is reached by (RFC 6874), without brackets: `[fe80::1%25eth0]`.
fn with_zone(host: &str) -> Option<String> {
    let inner = host.strip_prefix('[')?.strip_suffix(']')?;
    let (ip, zone) = inner.split_once("%25")?;
    let ip: Ipv6Addr = ip.parse().ok()?;
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (!zone.is_empty() && zone.bytes().all(valid)).then(|| format!("{ip}%{zone}"))
}

/// `[//[user:pass@]]/path`
fn unix(rest: &str) -> Option<RedisDsn> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (credentials, path) = if rest.starts_with('/') {
        ("", rest)
    } else {
        rest.split_at_checked(rest.find("@/")?)?
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
    let address = RedisServers::One(RedisAddress::Unix(path.into()));
    with_credentials(address, false, credentials, 0)
}

fn with_credentials(
    servers: RedisServers,
    tls: bool,
    credentials: &str,
    db: u32,
) -> Option<RedisDsn> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let (user, password) = (percent_decoded(user)?, percent_decoded(password)?);
    let mut dsn = RedisDsn {
        servers,
        tls,
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
    let (mut sentinel_user, mut sentinel_password) = (None, None);
    let by_sentinels = matches!(dsn.servers, RedisServers::Sentinel { .. });
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=')?;
        let valid = |b: u8| b.is_ascii_lowercase() || b == b'_';
        if name.is_empty() || !name.bytes().all(valid) {
            return None;
        }
        match name {
            "db" if value.is_empty() => {}
            "db" => dsn.db = digits(value)?.parse().ok()?,
            "sentinel_user" if by_sentinels => sentinel_user = Some(percent_decoded(value)?),
            "sentinel_password" if by_sentinels => {
                sentinel_password = Some(percent_decoded(value)?)
            }
            other if dsn.unused.iter().any(|name| name == other) => {}
            other => dsn.unused.push(other.to_owned()),
        }
    }
    let user = sentinel_user.filter(|user| !user.is_empty());
    match &mut dsn.servers {
        RedisServers::Sentinel { credentials, .. } => {
            let password = sentinel_password.filter(|password| !password.is_empty());
            if password.is_none() && user.is_some() {
                let unused = "sentinel_user (it has no sentinel_password)";
                dsn.unused.push(unused.to_owned());
            }
            *credentials = password.map(|password| Credentials {
                user,
                password: Secret::new(password),
            });
            Some(())
        }
        RedisServers::Cluster(_) => (dsn.db == 0).then_some(()),
        RedisServers::One(_) => Some(()),
    }
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
            ("redis://h/3?db=", "redis://h:6379/3"),
            ("redis://h?db=4&db=5", "redis://h:6379/5"),
            (
                "redis://[fe80::1%25eth0]:7000",
                "redis://[fe80::1%eth0]:7000/0",
            ),
            ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
            ("UNIX:///run/r.sock?db=7", "unix:///run/r.sock?db=7"),
            ("unix:/run/a%20b@c", "unix:///run/a b@c?db=0"),
        ] {
            assert_eq!(read(text), [shown, "", "", ""], "{text}");
        }
    }

    #[test]
    fn credentials_of_a_dsn_are_read() {
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
    fn sentinels_and_clusters() {
        for (text, shown) in [
            (
                "redis-sentinel://s1,s2:1,[::1]:2/mymaster",
                "redis-sentinel://s1:26379,s2:1,[::1]:2/mymaster/0",
            ),
            (
                "REDISS-Sentinel://s1:26380/my%2dmaster/3/",
                "rediss-sentinel://s1:26380/my-master/3",
            ),
            (
                "redis-sentinel:///m?db=2",
                "redis-sentinel://localhost:26379/m/2",
            ),
            (
                "redis-cluster://n1,n1:6379,n2:7000",
                "redis-cluster://n1:6379,n2:7000",
            ),
            ("rediss-cluster://n/0", "rediss-cluster://n:6379"),
            (
                "redis-cluster://:7000,:7001/",
                "redis-cluster://localhost:7000,localhost:7001",
            ),
            ("redis-cluster://n?db=0", "redis-cluster://n:6379"),
        ] {
            assert_eq!(read(text), [shown, "", "", ""], "{text}");
        }
        let user = ["ann", "p,w@"];
        for text in [
            "redis-cluster://ann:p,w@@n1,n2",
            "redis-cluster://ann:p%2Cw%40@n1,n2",
            "redis-sentinel://ann:p,w%40@s1,s2/m?sentinel_password=x",
        ] {
            let [_, is_user, is_password, _] = read(text);
            assert_eq!([is_user, is_password], user, "{text}");
        }
    }

    #[test]
    fn sentinels_have_credentials_of_their_own() {
        for (query, expected, unused) in [
            ("", None, ""),
            ("sentinel_password=p%40s+s", Some((None, "p@s+s")), ""),
            (
                "sentinel_user=u&sentinel_password=p@q",
                Some((Some("u"), "p@q")),
                "",
            ),
            ("sentinel_user=&sentinel_password=p", Some((None, "p")), ""),
            (
                "sentinel_user=u",
                None,
                "sentinel_user (it has no sentinel_password)",
            ),
            (
                "sentinel_user=u&sentinel_password=&pool_size=1",
                None,
                "pool_size, sentinel_user (it has no sentinel_password)",
            ),
        ] {
            let text = format!("redis-sentinel://:secret@s1,s2/m?{query}");
            let dsn = parse(&text).expect(&text);
            assert_eq!(dsn.unused.join(", "), unused);
            assert!(!format!("{dsn:?} {dsn}").contains("secret"));
            let RedisServers::Sentinel { credentials, .. } = dsn.servers else {
                panic!("{dsn}");
            };
            let found = credentials.as_ref();
            let found = found.map(|c| (c.user.as_deref(), c.password.expose()));
            assert_eq!(found, expected, "{text}");
        }
        // They have no meaning elsewhere.
        assert_eq!(
            read("redis-cluster://n?sentinel_user=u")[3],
            "sentinel_user"
        );
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
            "redis://[fe80::1%25]",
            "redis://[fe80::1%eth0]",
            "redis://[h%25eth0]",
            "unix://",
            "unix:",
            "unix:relative",
            "unix://host/run/redis.sock",
            "unix:///run/",
            "unix:///run/%00",
            "unix:///run/r.sock?db=x",
            "redis-sentinel://h",
            "redis-sentinel://h/",
            "redis-sentinel://h//1",
            "redis-sentinel://h,/m",
            "redis-sentinel://,h/m",
            "redis-sentinel://h,,h/m",
            "redis-sentinel://h:0,g/m",
            "redis-sentinel://h/m/x",
            "redis-sentinel://h/m/1/2",
            "redis-sentinel://h/m?sentinel_password=%zz",
            "redis-sentinel://h/?sentinel_password=p",
            "redis-sentinel://h/m#f",
            "redis-sentinel://u:p?w@h/m?sentinel_password=p",
            "redis-sentinels://h/m",
            "redis-cluster://h/1",
            "redis-cluster://h?db=1",
            "redis-cluster://h/m",
            "redis-cluster://h,",
            "redis_cluster://h",
            "redis-cluster:h",
        ] {
            assert_eq!(parse(text), Err(ACCEPTED.to_owned()), "{text}");
        }
    }
}
