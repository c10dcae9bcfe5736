//! What a usable value looks like, for each kind of value: a text in, a checked value or what is accepted out.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use crate::log::{Format, Level};
use crate::secret::Secret;
use crate::webhook::Url;
use crate::wire::authority::{self, Host};

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `:PORT`: IPv4 and IPv6.
    AllInterfaces(u16),
    /// `HOST:PORT` where HOST is a name, not yet resolved.
    Host(String, u16),
    /// `1.2.3.4:PORT`, `[V6]:PORT`.
    Ip(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::AllInterfaces(port) => write!(f, ":{port}"),
            Listen::Host(host, port) => write!(f, "{host}:{port}"),
            Listen::Ip(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How many threads ask the authorizer at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    Exactly(usize),
    /// By default: each takes a descriptor, and no more than an eighth of them are for workers.
    AsFdsAllow(usize),
}

/// By default, where a call has many questions: with so few calls in flight, questions wait and batches form.
const BATCHING_WORKERS: usize = 8;

impl Workers {
    pub(super) fn within(self, fds: usize, batch: usize) -> usize {
        match self {
            Workers::Exactly(workers) => workers,
            Workers::AsFdsAllow(workers) => {
                let wanted = if batch > 1 { BATCHING_WORKERS } else { workers };
                wanted.min(fds / 8).max(1)
            }
        }
    }
}

/// `--access-log`: which disconnects are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Errors,
    All,
}

/// `--authorizer-failure`: what a failure of the authorizer does to what waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizerFailure {
    Close,
    Reject,
    Hold,
}

impl AuthorizerFailure {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            AuthorizerFailure::Close => "close",
            AuthorizerFailure::Reject => "reject",
            AuthorizerFailure::Hold => "hold",
        }
    }
}

pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

pub(super) const LISTEN: &str = "a comma-separated list of :PORT, HOST:PORT, [V6]:PORT and unix:/path \
    (absolute, of at most 107 bytes)";

pub(super) const PROXIES: &str =
    "a comma-separated list of addresses, networks such as 10.0.0.0/8 or 2001:db8::/32, and unix";

/// The error is the item that cannot be used, empty if there are no items.
pub(super) fn listen_addresses(text: &str) -> Result<Vec<Listen>, String> {
    let addresses = items(text).map(|item| listen_address(item).ok_or_else(|| item.to_owned()));
    match addresses.collect::<Result<Vec<_>, _>>()? {
        none if none.is_empty() => Err(String::new()),
        some => Ok(some),
    }
}

fn listen_address(text: &str) -> Option<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        // A socket's address has room for 108 bytes with the NUL (unix(7)). A relative path would depend on the
        // service's folder.
        let fits = path.starts_with('/') && path.len() <= 107;
        return fits.then(|| Listen::Unix(PathBuf::from(path)));
    }
    if let Some(port) = text.strip_prefix(':') {
        return authority::port(port.as_bytes()).map(Listen::AllInterfaces);
    }
    // With the brackets, for the sake of a zone ([fe80::1%2]:3000).
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Listen::Ip(address));
    }
    let (host, port) = Host::with_port(text)?;
    Some(match host {
        Host::Ip(ip) => Listen::Ip(SocketAddr::new(ip, port?)),
        Host::Name(name) => Listen::Host(name, port?),
    })
}

/// `text`, if it is digits: the standard library would take a sign as well.
pub(super) fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

/// `none`: what the empty text means.
pub(super) fn webhook_url(text: &str, none: &str) -> Result<Option<Url>, String> {
    match text {
        "" => Ok(None),
        url => url.parse().map(Some).map_err(|why: String| {
            format!("http://host[:port][/path] or https://..., or empty for {none} ({why})")
        }),
    }
}

pub(super) enum Driver {
    Memory,
    Redis,
}

pub(super) fn driver(text: &str) -> Result<Driver, String> {
    match text.to_ascii_lowercase().as_str() {
        "memory" => Ok(Driver::Memory),
        "redis" => Ok(Driver::Redis),
        _ => Err("memory or redis".to_owned()),
    }
}

pub(super) fn key(text: &str) -> Result<Option<Secret>, String> {
    // No header can carry a control character (RFC 9110 §5.5): it is the line break at the end of a secret's file.
    if text.chars().any(char::is_control) {
        return Err("a text without line breaks or other control characters".to_owned());
    }
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

/// One key, or two with a comma between them. White space around a key is not part of it, as in every list.
///
/// The error names a key by its number, as a key is never shown.
pub(super) fn signing_keys(text: &str) -> Result<Vec<Secret>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |why: String| {
        Err(format!(
            "one key, or two with a comma between them, without control characters ({why})"
        ))
    };
    let keys: Vec<&str> = text.split(',').collect();
    for (number, key) in (1..).zip(&keys) {
        // Such as the line break at the end of a secret's file, which the other side may or may not have removed.
        if key.chars().any(char::is_control) {
            return wrong(format!("key {number} has a control character"));
        }
        if key.trim().is_empty() {
            return wrong(format!("key {number} is empty"));
        }
    }
    match keys.len() {
        1 | 2 => Ok(keys.iter().map(|key| Secret::new(key.trim())).collect()),
        count => wrong(format!("there are {count} keys")),
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.to_ascii_lowercase()
        .parse()
        .map_err(|_| "true or false".to_owned())
}

pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off".to_owned()),
    }
}

pub(super) fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = digits(text).and_then(|digits| digits.parse().ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// A gigabyte at most: the lengths of a message and of its frame stay within 32 bits. Zero would let nothing through.
/// It is most likely meant as "no limit", which does not exist.
pub(super) fn size(text: &str) -> Result<usize, String> {
    size_up_to(text, 1 << 30)
        .ok_or_else(|| "a size such as 65536, 64KiB or 1MiB, from 1 to 1GiB".to_owned())
}

/// A size of memory: a terabyte at most.
pub(super) fn total_size(text: &str) -> Result<usize, String> {
    size_up_to(text, 1 << 40)
        .ok_or_else(|| "a size such as 65536, 64MiB or 1GiB, from 1 to 1TiB".to_owned())
}

fn size_up_to(text: &str, most: u64) -> Option<usize> {
    let bytes = text
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| text.parse::<ByteSize>().ok().map(|size| size.as_u64()))
        .flatten();
    bytes
        .filter(|bytes| (1..=most).contains(bytes))
        .and_then(|bytes| usize::try_from(bytes).ok())
}

pub(super) fn some_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a duration such as 500ms, 5s or 2m, from 1ms to 24h".to_owned())
}

pub(super) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| "0, or a duration such as 500ms, 5s or 2m, from 1ms to 24h".to_owned())
}

/// Zero, or a millisecond (the least a poll can wait for) to a day (more is most likely a mistake).
fn parse_duration(text: &str) -> Option<Duration> {
    // Longer texts are not a duration within a day, and could add up to more than humantime can hold.
    let short = Some(text).filter(|text| text.len() <= 20)?;
    let time = humantime::parse_duration(short).ok()?;
    let usable = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
    (time.is_zero() || usable.contains(&time)).then_some(time)
}

pub(super) fn level(text: &str) -> Result<Level, String> {
    let text = text.to_ascii_lowercase();
    let level = Level::ALL.into_iter().find(|level| level.name() == text);
    level.ok_or_else(|| "error, warn, info or debug".to_owned())
}

pub(super) fn log_format(text: &str) -> Result<Option<Format>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let text = text.to_ascii_lowercase();
    let format = Format::ALL.into_iter().find(|format| format.name() == text);
    format.map(Some).ok_or_else(|| "json or text".to_owned())
}

pub(super) fn authorizer_failure(text: &str) -> Result<AuthorizerFailure, String> {
    match text.to_ascii_lowercase().as_str() {
        "close" => Ok(AuthorizerFailure::Close),
        "reject" => Ok(AuthorizerFailure::Reject),
        "hold" => Ok(AuthorizerFailure::Hold),
        _ => Err("close, reject or hold".to_owned()),
    }
}

pub(super) fn access_log(text: &str) -> Result<AccessLog, String> {
    match text.to_ascii_lowercase().as_str() {
        "off" => Ok(AccessLog::Off),
        "errors" => Ok(AccessLog::Errors),
        "all" => Ok(AccessLog::All),
        _ => Err("off, errors or all".to_owned()),
    }
}
