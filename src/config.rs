//! The command line and the environment, turned once into checked types (CONTRACT §2).
//!
//! Owns: every flag's name, variable, default and help, in one table. Knows: what a usable value looks like.
//! Never knows: what a value is used for. Nobody else reads arguments or variables.
//!
//! Decisions
//! - The table makes argh's struct, the help and the defaults, which pass through the same checks as any other value:
//!   a default cannot disagree with its documentation. Over argh's own help, which knows neither variables nor
//!   defaults. Reconsider when argh does.
//! - Arguments are respelled as `--flag value` before argh sees them, because argh knows neither `--flag=value` nor
//!   v3's `-flag`. A flag takes what follows it, even when that begins with a dash, and the last of two wins, as with
//!   v3's parser. A switch takes it only when it does not.
//! - A slip is told what it may have meant, by strsim's edit distance, and is a wrong call all the same: nothing is guessed.
//! - What may carry a password is hidden in every error line and every `Debug`, because both end up in logs.

mod dsn;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::FromArgs;
use bytesize::ByteSize;

pub use self::dsn::{Credentials, RedisAddress, RedisDsn};
use crate::authorizer::{self, Url};
use crate::log::{Format, Level};
use crate::secret::{HIDDEN, Secret};
use crate::wire::authority::{self, Host};
use crate::wire::forwarded::Proxies;
use crate::wire::origins::Origins;

/// A flag of the command line, as `--help` and the README show it.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    field: &'static str,
    /// The heading under which the help has it.
    pub group: &'static str,
    kind: Kind,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// The value that holds without flag and variable, spelled as a user would; empty is none.
    pub default: &'static str,
    /// What it does: lines of text, each with a space before it.
    pub about: &'static [&'static str],
}

/// How a flag's value is gathered, and how much of it an error line may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    One,
    /// Comma-separated; a repeated flag adds to the list.
    List,
    /// May hold credentials, which are hidden.
    Url,
    /// Never shown.
    Secret,
    /// true or false; alone it means true.
    Switch,
}

impl Flag {
    /// The name without dashes: `listen-addr`.
    pub fn name(&self) -> String {
        self.field.replace('_', "-")
    }

    /// The environment variable: `WSIFY_LISTEN_ADDR`.
    pub fn variable(&self) -> String {
        format!("WSIFY_{}", self.field.to_uppercase())
    }
}

macro_rules! flags {
    ($([$group:literal] $(
        $(#[doc = $about:tt])+ $field:ident: $kind:ident $value:literal = $default:literal;
    )+)+) => {
        /// Every flag but `--help` and `--version`, in the order of the help.
        pub const FLAGS: &[Flag] = &[$($(Flag {
            field: stringify!($field),
            group: $group,
            kind: Kind::$kind,
            value: $value,
            default: $default,
            about: &[$($about),+],
        }),+),+];

        /// What was given on the command line, unchecked.
        #[derive(FromArgs)]
        struct Arguments {
            $($($(#[doc = $about])+ #[argh(option)] $field: Vec<String>,)+)+
        }

        /// Every flag's text and where it came from, unchecked.
        struct Settings {
            $($($field: Setting,)+)+
        }

        impl Settings {
            fn gather(
                given: Arguments,
                env: impl Fn(&str) -> Option<OsString>,
            ) -> Result<Settings, Stop> {
                let mut flags = FLAGS.iter();
                let mut gather = |given| match flags.next() {
                    Some(flag) => Setting::gather(*flag, given, &env),
                    None => unreachable!("FLAGS and Settings come from one table"),
                };
                Ok(Settings {
                    $($($field: gather(given.$field)?,)+)+
                })
            }
        }
    };
}

flags! {
["Where it listens"]
    /// where to listen: :PORT (all interfaces, IPv4 and IPv6), HOST:PORT, [V6]:PORT
    /// or unix:/path; port 0 is any free one; may be repeated
    listen_addr: List "ADDR,..." = ":3000";
    /// share the TCP port with other processes on this machine; the kernel spreads
    /// the connections; each process needs this flag
    reuse_port: Switch "true|false" = "false";
["The authorizer"]
    /// the webhook that is asked before every connect, join, leave and broadcast,
    /// http://... or https://...; without it everything is allowed
    authorizer_url: Url "URL" = "";
    /// how long one whole call to the authorizer may take, and a question wait for a
    /// worker before it
    authorizer_timeout: One "DURATION" = "5s";
    /// worker threads, which is to say calls in flight at most; by default no more than
    /// an eighth of the limit on open files
    authorizer_workers: One "COUNT" = "256";
    /// questions that may wait for a worker; one more counts as authorizer down
    authorizer_queue: One "COUNT" = "10000";
["The broker"]
    /// how servers share their channels: memory (not at all) or redis
    broker_driver: One "memory|redis" = "memory";
    /// where redis is: redis://[user:pass@]host[:port][/db], or rediss:// for TLS;
    /// needed with --broker-driver redis
    broker_dsn: Url "URL" = "";
    /// put before every channel name at the broker
    broker_prefix: One "TEXT" = "";
["Who is let in"]
    /// what backends must send to /broadcast, /metrics and /tap; without it only peers
    /// on loopback or a unix socket may use them
    broadcasting_key: Secret "KEY" = "";
    /// origins that a browser may connect from: https://app.example.com,
    /// https://*.example.com, an app's scheme alone such as capacitor://, or null; * is any
    allowed_origins: List "ORIGIN,..." = "*";
    /// proxies whose X-Forwarded-For is trusted: addresses, networks such as
    /// 10.0.0.0/8, or unix for peers on a unix socket
    trusted_proxies: List "CIDR,..." = "";
    /// expect a PROXY protocol header, version 1 or 2, from trusted proxies and on unix
    /// sockets
    proxy_protocol: Switch "true|false" = "false";
["Limits"]
    /// connections at most; 0 is what the limit on open files allows, less a reserve
    max_connections: One "COUNT" = "0";
    /// connections at most from one address; an IPv6 /64 counts as one; 0 is no limit
    max_connections_per_ip: One "COUNT" = "0";
    /// largest message of a client, and largest body of a POST
    max_message_size: One "SIZE" = "1MiB";
    /// channels that one connection may be in
    max_channels: One "COUNT" = "1000";
    /// messages that one connection may send per second, and as a burst; 0 is no limit
    max_message_rate: One "COUNT" = "0";
    /// bytes that may wait for one slow connection
    max_queue_size: One "SIZE" = "1MiB";
    /// total bytes buffered for all connections; under pressure the largest holders are
    /// disconnected first
    max_total_queue_size: One "SIZE" = "1GiB";
["Time"]
    /// time from accepting a connection to its complete request
    handshake_timeout: One "DURATION" = "10s";
    /// silence after which the server pings; after another interval of silence the
    /// connection ends; 0 is never
    ping_interval: One "DURATION" = "25s";
    /// how long a graceful stop may take; 0 stops at once
    drain_timeout: One "DURATION" = "10s";
["Logs"]
    /// least severe lines that are logged
    log_level: One "error|warn|info|debug" = "info";
    /// how log lines look; by default text at a terminal, and json elsewhere
    log_format: One "json|text" = "";
    /// which disconnects are logged: none, only errors, or all with their counts of
    /// messages and bytes
    access_log: One "off|errors|all" = "errors";
["Trying it out"]
    /// serve a page at / that connects, joins, broadcasts and shows what happens
    playground: Switch "true|false" = "false";
    /// try the addresses, the authorizer and the broker, report, and exit with 0 or 1
    check: Switch "true|false" = "false";
}

/// Everything an operator can set, checked. Field names are the flags'.
#[derive(Clone, Debug)]
pub struct Config {
    /// Not empty, as it is read.
    pub listen_addr: Vec<Listen>,
    /// TCP listeners share their ports with other processes that want it, too.
    pub reuse_port: bool,
    /// `None`: everything is allowed.
    pub authorizer_url: Option<Url>,
    pub authorizer_timeout: Duration,
    pub authorizer_workers: Workers,
    pub authorizer_queue: usize,
    pub broker: Broker,
    pub broker_prefix: String,
    /// `None`: the backend endpoints answer local peers only (CONTRACT §5).
    pub broadcasting_key: Option<Secret>,
    pub allowed_origins: Origins,
    /// Empty: nobody is believed.
    pub trusted_proxies: Proxies,
    pub proxy_protocol: bool,
    pub playground: bool,
    /// `None`: as many as the limit on file descriptors allows.
    pub max_connections: Option<usize>,
    /// 0: no limit of its own.
    pub max_connections_per_ip: usize,
    /// Bytes.
    pub max_message_size: usize,
    pub max_channels: usize,
    /// In a second; 0: no limit.
    pub max_message_rate: u64,
    /// Bytes.
    pub max_queue_size: usize,
    /// Bytes.
    pub max_total_queue_size: usize,
    pub handshake_timeout: Duration,
    /// `None`: never.
    pub ping_interval: Option<Duration>,
    /// Zero: a stop is immediate.
    pub drain_timeout: Duration,
    pub log_level: Level,
    /// `None`: by whether stdout is a terminal.
    pub log_format: Option<Format>,
    /// Whether a terminal may be shown colours: unless `NO_COLOR` is set or `TERM` is `dumb`.
    pub colours: bool,
    pub access_log: AccessLog,
    /// `LISTEN_FDS`: sockets that a service manager has opened for this process, from descriptor 3 on; they replace
    /// `listen_addr` where there are any.
    pub listen_fds: usize,
    /// `NOTIFY_SOCKET`: where a service manager wants to hear how it goes.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`: the silence after which it takes this process for dead.
    pub watchdog: Option<Duration>,
    /// Whether only to look if all is well.
    pub check: bool,
    /// `SSL_CERT_FILE`: certificates that are trusted besides the system's.
    pub cert_file: Option<PathBuf>,
}

/// How many threads ask the authorizer at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    Exactly(usize),
    /// By default: each takes a descriptor, and no more than an eighth of them are for workers.
    AsFdsAllow(usize),
}

impl Workers {
    fn within(self, fds: usize) -> usize {
        match self {
            Workers::Exactly(workers) => workers,
            Workers::AsFdsAllow(workers) => workers.min(fds / 8).max(1),
        }
    }
}

/// Where to listen.
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

/// The channels' way between servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    Memory,
    Redis(RedisDsn),
}

/// Whose end is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Errors,
    All,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broker::Memory => f.write_str("memory"),
            Broker::Redis(dsn) => dsn.fmt(f),
        }
    }
}

/// Why the program ends before its time, or never begins: a text, and the exit status that goes with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Stop {
    /// 0: what was asked for (help, version) is the text. 1: it could not start. 2: it was called wrongly.
    pub status: u8,
    /// For stdout when the status is 0, else one line for stderr.
    pub text: String,
}

impl Stop {
    /// It was called rightly, and could not start or go on all the same.
    pub fn failed(why: impl fmt::Display) -> Stop {
        Stop {
            status: 1,
            text: one_line(why),
        }
    }

    /// It was called wrongly.
    fn misused(why: impl fmt::Display) -> Stop {
        Stop {
            status: 2,
            text: one_line(why),
        }
    }

    /// Says it, and yields the exit status. That nobody may be there to read it changes nothing.
    pub fn say(self) -> ExitCode {
        let line = format!("{}\n", self.text);
        let _ = if self.status == 0 {
            std::io::stdout().write_all(line.as_bytes())
        } else {
            std::io::stderr().write_all(line.as_bytes())
        };
        ExitCode::from(self.status)
    }
}

/// What a user gave may hold line breaks, and worse for a terminal.
fn one_line(why: impl fmt::Display) -> String {
    let mut line = "wsify: ".to_owned();
    for c in why.to_string().chars() {
        match c {
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// Sockets of a service manager: more than these are not looked at.
const MOST_LISTEN_FDS: u64 = 64;

impl Config {
    /// Reads the arguments (the program's name not among them) and the variables they may leave to the environment.
    ///
    /// Errors: [`Stop`] with status 0 for `--help` and `--version`, and with 2 for an unknown flag or a value that
    /// cannot be used, in the words of CONTRACT §2.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Config, Stop> {
        let respelled = respell(arguments)?;
        let respelled: Vec<&str> = respelled.iter().map(String::as_str).collect();
        let given = Arguments::from_args(&["wsify"], &respelled).map_err(|exit| {
            Stop::misused(format_args!(
                "{}; accepted are {}",
                exit.output.trim(),
                names().join(", ")
            ))
        })?;
        let cert_file = env("SSL_CERT_FILE").filter(|path| !path.is_empty());
        let cert_file = cert_file.map(PathBuf::from);
        let notify_socket = env("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let number = |name| env(name)?.to_str().and_then(digits)?.parse::<u64>().ok();
        let us = Some(u64::from(std::process::id()));
        // Whoever is started by what a service manager started inherits these as well (sd_listen_fds(3)).
        let listen_fds = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == us);
        let watchdog = number("WATCHDOG_USEC").filter(|&time| {
            time > 0 && (env("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == us)
        });
        let is = |name, value: &str| env(name).is_some_and(|set| set == *value);
        let colours = env("NO_COLOR").is_none_or(|set| set.is_empty()) && !is("TERM", "dumb");
        let set = Settings::gather(given, env)?;

        let broker = match set.broker_driver.checked(driver)? {
            Driver::Memory => Broker::Memory,
            Driver::Redis => Broker::Redis(set.broker_dsn.checked(dsn::parse)?),
        };
        Ok(Config {
            listen_addr: set.listen_addr.checked_list(LISTEN, listen_addresses)?,
            reuse_port: set.reuse_port.checked(switch)?,
            authorizer_url: set.authorizer_url.checked(authorizer_url)?,
            authorizer_timeout: set.authorizer_timeout.checked(some_duration)?,
            // Each worker is a thread.
            authorizer_workers: {
                let workers = set.authorizer_workers.checked(|t| count(t, 1..=1024))?;
                match set.authorizer_workers.given {
                    true => Workers::Exactly(workers),
                    false => Workers::AsFdsAllow(workers),
                }
            },
            // A question waits with its JSON, of a few hundred bytes: gigabytes at most.
            authorizer_queue: set.authorizer_queue.checked(|t| count(t, 1..=10_000_000))?,
            broker,
            broker_prefix: set.broker_prefix.checked(|t| Ok(t.to_owned()))?,
            broadcasting_key: set.broadcasting_key.checked(key)?,
            allowed_origins: set
                .allowed_origins
                .checked_list(Origins::ACCEPTED, Origins::parse)?,
            trusted_proxies: set.trusted_proxies.checked_list(PROXIES, Proxies::parse)?,
            proxy_protocol: set.proxy_protocol.checked(switch)?,
            playground: set.playground.checked(switch)?,
            // Far more than one machine has ports or memory for.
            max_connections: match set.max_connections.checked(|t| count(t, 0..=100_000_000))? {
                0 => None,
                limit => Some(limit),
            },
            max_connections_per_ip: set
                .max_connections_per_ip
                .checked(|t| count(t, 0..=100_000_000))?,
            max_message_size: set.max_message_size.checked(size)?,
            max_channels: set.max_channels.checked(|t| count(t, 1..=1_000_000))?,
            // Nobody sends more in a second than the server can read.
            max_message_rate: set.max_message_rate.checked(|t| count(t, 0..=1_000_000))? as u64,
            max_queue_size: set.max_queue_size.checked(size)?,
            max_total_queue_size: set.max_total_queue_size.checked(total_size)?,
            handshake_timeout: set.handshake_timeout.checked(some_duration)?,
            ping_interval: match set.ping_interval.checked(duration_or_zero)? {
                Duration::ZERO => None,
                interval => Some(interval),
            },
            drain_timeout: set.drain_timeout.checked(duration_or_zero)?,
            log_level: set.log_level.checked(level)?,
            log_format: set.log_format.checked(log_format)?,
            colours,
            access_log: set.access_log.checked(access_log)?,
            listen_fds: listen_fds.map_or(0, |count| count.min(MOST_LISTEN_FDS) as usize),
            notify_socket,
            watchdog: watchdog.map(Duration::from_micros),
            check: set.check.checked(switch)?,
            cert_file,
        })
    }
}

impl Config {
    /// What the authorizer is started with, if there is one, where a process may have `fds` file descriptors.
    pub fn authorizer(&self, fds: usize) -> Option<authorizer::Settings> {
        let url = self.authorizer_url.clone()?;
        Some(authorizer::Settings {
            url,
            timeout: self.authorizer_timeout,
            workers: self.authorizer_workers.within(fds),
            queue: self.authorizer_queue,
            cert_file: self.cert_file.clone(),
        })
    }
}

/// Arguments as argh reads them: `--flag`, `value`, in turn.
fn respell(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, Stop> {
    let mut respelled = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        let argument = utf8(&argument, "an argument")?;
        let Some(dashed) = argument.strip_prefix('-') else {
            return Err(stray(&argument));
        };
        let undashed = dashed.strip_prefix('-').unwrap_or(dashed);
        let (name, value) = match undashed.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (undashed, None),
        };
        match (name, &value) {
            ("", _) => return Err(stray(&argument)),
            ("help" | "h", None) => return Err(help()),
            ("version", None) => return Err(version()),
            _ => {}
        }
        let flag = FLAGS.iter().find(|flag| flag.name() == name);
        let next = arguments.peek().map(|next| next.as_encoded_bytes());
        let alone = next.is_none_or(|next| next.starts_with(b"-"));
        let value = match value {
            Some(value) => Some(value),
            None if flag.is_some_and(|flag| flag.kind == Kind::Switch) && alone => {
                Some("true".to_owned())
            }
            None => match arguments.next() {
                Some(value) => Some(utf8(&value, &format!("the value of --{name}"))?),
                None => None,
            },
        };
        if flag.is_none() {
            return Err(unknown(name));
        }
        if let (None, Some(flag)) = (&value, flag) {
            return Err(Stop::misused(format_args!(
                "--{name} has no value: write --{name} {}",
                flag.value
            )));
        }
        respelled.push(format!("--{name}"));
        respelled.extend(value);
    }
    Ok(respelled)
}

fn utf8(text: &OsStr, what: &str) -> Result<String, Stop> {
    // Not shown: it may be a secret, and without UTF-8 there is no telling.
    let text = text.to_str().map(str::to_owned);
    text.ok_or_else(|| Stop::misused(format_args!("{what} is not UTF-8")))
}

fn stray(argument: &str) -> Stop {
    Stop::misused(format_args!(
        "{:?} is not a flag: accepted are --flag value and --flag=value; --help lists the flags",
        redacted(argument)
    ))
}

fn version() -> Stop {
    Stop {
        status: 0,
        text: format!("wsify {}", env!("CARGO_PKG_VERSION")),
    }
}

/// Every flag as it is typed, with the two that take no value.
fn names() -> Vec<String> {
    let flags = FLAGS.iter().map(Flag::name);
    let all = flags.chain(["help".to_owned(), "version".to_owned()]);
    all.map(|name| format!("--{name}")).collect()
}

fn unknown(name: &str) -> Stop {
    let (name, names) = (format!("--{name}"), names());
    let all = names.join(", ");
    match meant(&name, names.iter().map(String::as_str)) {
        Some(word) => Stop::misused(format_args!(
            "{name} is no flag: did you mean {word}? Accepted are {all}"
        )),
        None => Stop::misused(format_args!("{name} is no flag: accepted are {all}")),
    }
}

/// The one of the `words` of which what was written is most likely a slip.
fn meant<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_ascii_lowercase();
    // A third of the letters: more is another word. A swap of two neighbours counts once.
    let bound = |word: &str| word.trim_start_matches('-').len().div_ceil(3);
    // Nothing near is that long, and the distance takes time and memory by the product of the lengths.
    let words = words.into_iter().filter(|_| written.len() <= 64);
    let near = words
        .map(|word| (strsim::damerau_levenshtein(&written, word), word))
        .filter(|&(distance, word)| distance <= bound(word))
        .min_by_key(|&(distance, _)| distance);
    near.map(|(_, word)| word)
}

/// Columns of the help, as a terminal has them at least.
const COLUMNS: usize = 80;

fn help() -> Stop {
    let mut text = format!(
        "wsify {}\n{}\n\nUsage: wsify [--flag value | --flag=value]...\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_DESCRIPTION"),
    );
    let mut group = "";
    for flag in FLAGS {
        if flag.group != group {
            group = flag.group;
            text += &format!("\n{group}\n");
        }
        let default = match flag.default {
            "" => "none",
            default => default,
        };
        text += &format!("\n  --{} {}\n", flag.name(), flag.value);
        push_wrapped(&mut text, &flag.about.join(" "));
        text += &format!("      [default {default}; {}]\n", flag.variable());
    }
    text += "\nOthers\n\n  --help, --version\n\n\
        Durations: 500ms, 5s, 2m. Sizes: 65536, 64KiB, 1MiB. A flag wins over its\n\
        variable; an empty variable is none.";
    Stop { status: 0, text }
}

/// Appends `words` in lines of the help, indented.
fn push_wrapped(text: &mut String, words: &str) {
    let mut line = "     ".to_owned();
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS {
            *text += &line;
            text.push('\n');
            line.truncate(5);
        }
        line.push(' ');
        line += word;
    }
    *text += &line;
    text.push('\n');
}

/// One flag's text on its way to being checked.
struct Setting {
    flag: Flag,
    /// As the user calls it: `--flag` or `WSIFY_FLAG`.
    name: String,
    text: String,
    /// Whether the user has given it; otherwise the text is the default.
    given: bool,
}

impl Setting {
    fn gather(
        flag: Flag,
        given: Vec<String>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Setting, Stop> {
        let variable = flag.variable();
        let (name, text, given) = if let Some(last) = given.last() {
            let text = match flag.kind {
                Kind::List => given.join(","),
                Kind::One | Kind::Url | Kind::Secret | Kind::Switch => last.clone(),
            };
            (format!("--{}", flag.name()), text, true)
        } else if let Some(text) = env(&variable).filter(|text| !text.is_empty()) {
            let text = utf8(&text, &variable)?;
            (variable, text, true)
        } else {
            let default = flag.default.to_owned();
            (format!("--{}", flag.name()), default, false)
        };
        Ok(Setting {
            flag,
            name,
            text,
            given,
        })
    }

    /// The text as a value, by `check`, which says what it accepts where it refuses.
    fn checked<T>(&self, check: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Stop> {
        check(&self.text).map_err(|accepted| self.refused(&accepted))
    }

    /// The text's items as a value, by `parse`, whose error is the item that it refuses.
    fn checked_list<T>(
        &self,
        accepted: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Stop> {
        parse(&self.text).map_err(|item| match items(&self.text).count() {
            0 | 1 => self.refused(accepted),
            _ => self.refused_for(&format!(" because of {item:?}"), accepted),
        })
    }

    fn refused(&self, accepted: &str) -> Stop {
        self.refused_for("", accepted)
    }

    /// `because` names the part of the text that is wrong.
    fn refused_for(&self, because: &str, accepted: &str) -> Stop {
        let shown = match self.flag.kind {
            Kind::One | Kind::List | Kind::Switch => self.text.clone(),
            Kind::Url => redacted(&self.text),
            Kind::Secret => HIDDEN.to_owned(),
        };
        let choices = self
            .flag
            .value
            .split('|')
            .filter(|_| self.flag.value.contains('|'));
        let hint = meant(&self.text, choices);
        let hint = hint.map_or(String::new(), |word| format!("; did you mean {word}?"));
        Stop::misused(format_args!(
            "{} cannot be {shown:?}{because}: accepted is {accepted}{hint}",
            self.name
        ))
    }
}

/// A URL without what may be secret in it: user, password, query. Of what is hardly a URL rather too little is shown.
fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            (&url[..scheme.len() + 3], rest)
        }
        _ => ("", url),
    };
    let (path, query) = match rest.split_once(['?', '#']) {
        Some((path, _)) => (path, HIDDEN),
        None => (rest, ""),
    };
    if let Some((_, place)) = rest.rsplit_once('@') {
        return match query {
            "" => format!("{scheme}{HIDDEN}@{place}"),
            // Whether the '@' ends a password or stands in the query cannot be told.
            _ => format!("{scheme}{HIDDEN}"),
        };
    }
    // What follows a colon and is not a port may be a password that has lost its host.
    let authority = path.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.bytes().all(|b| b.is_ascii_digit() || b == b']') => {
            format!("{scheme}{host}:{HIDDEN}")
        }
        _ => format!("{scheme}{path}{query}"),
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

const LISTEN: &str = "a comma-separated list of :PORT, HOST:PORT, [V6]:PORT and unix:/path \
    (absolute, of at most 107 bytes)";

const PROXIES: &str =
    "a comma-separated list of addresses, networks such as 10.0.0.0/8 or 2001:db8::/32, and unix";

/// The error is the item that cannot be used, empty if there are no items.
fn listen_addresses(text: &str) -> Result<Vec<Listen>, String> {
    let addresses = items(text).map(|item| listen_address(item).ok_or_else(|| item.to_owned()));
    match addresses.collect::<Result<Vec<_>, _>>()? {
        none if none.is_empty() => Err(String::new()),
        some => Ok(some),
    }
}

fn listen_address(text: &str) -> Option<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        // A socket's address has room for 108 bytes with the NUL (unix(7)). Relative to what, a service could not tell.
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
fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

fn authorizer_url(text: &str) -> Result<Option<Url>, String> {
    match text {
        "" => Ok(None),
        url => url.parse().map(Some).map_err(|why: String| {
            format!("http://host[:port][/path] or https://..., or empty for no authorizer ({why})")
        }),
    }
}

enum Driver {
    Memory,
    Redis,
}

fn driver(text: &str) -> Result<Driver, String> {
    match text.to_ascii_lowercase().as_str() {
        "memory" => Ok(Driver::Memory),
        "redis" => Ok(Driver::Redis),
        _ => Err("memory or redis".to_owned()),
    }
}

fn key(text: &str) -> Result<Option<Secret>, String> {
    // No header can carry a control character (RFC 9110 §5.5): it is the line break at the end of a secret's file.
    if text.chars().any(char::is_control) {
        return Err("a text without line breaks and other control characters".to_owned());
    }
    Ok((!text.is_empty()).then(|| Secret::new(text)))
}

fn switch(text: &str) -> Result<bool, String> {
    text.to_ascii_lowercase()
        .parse()
        .map_err(|_| "true or false".to_owned())
}

fn count(text: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = digits(text).and_then(|digits| digits.parse().ok());
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
}

/// A gigabyte at most: the lengths of a message and of its frame stay within 32 bits, and nobody who wants more for one
/// client means it. Zero would let nothing through, and is most likely meant as "no limit", which there is not.
fn size(text: &str) -> Result<usize, String> {
    size_up_to(text, 1 << 30)
        .ok_or_else(|| "a size such as 65536, 64KiB or 1MiB, from 1 to 1GiB".to_owned())
}

/// Of memory: a terabyte at most.
fn total_size(text: &str) -> Result<usize, String> {
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

fn some_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "a duration such as 500ms, 5s or 2m, from 1ms to 24h".to_owned())
}

fn duration_or_zero(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| "0, or a duration such as 500ms, 5s or 2m, from 1ms to 24h".to_owned())
}

/// Zero, or a millisecond (the least a poll can wait for) to a day (more is taken for a slip).
fn parse_duration(text: &str) -> Option<Duration> {
    // Longer ones are no duration of a day, and could add up to more than humantime can hold.
    let short = Some(text).filter(|text| text.len() <= 20)?;
    let time = humantime::parse_duration(short).ok()?;
    let usable = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
    (time.is_zero() || usable.contains(&time)).then_some(time)
}

fn level(text: &str) -> Result<Level, String> {
    let text = text.to_ascii_lowercase();
    let level = Level::ALL.into_iter().find(|level| level.name() == text);
    level.ok_or_else(|| "error, warn, info or debug".to_owned())
}

fn log_format(text: &str) -> Result<Option<Format>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let text = text.to_ascii_lowercase();
    let format = Format::ALL.into_iter().find(|format| format.name() == text);
    format.map(Some).ok_or_else(|| "json or text".to_owned())
}

fn access_log(text: &str) -> Result<AccessLog, String> {
    match text.to_ascii_lowercase().as_str() {
        "off" => Ok(AccessLog::Off),
        "errors" => Ok(AccessLog::Errors),
        "all" => Ok(AccessLog::All),
        _ => Err("off, errors or all".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn read(arguments: &[&str], env: &[(&str, &str)]) -> Result<Config, Stop> {
        let lookup = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Config::read(arguments.iter().map(OsString::from), lookup)
    }

    fn given(flag: &str, value: &str) -> Result<Config, Stop> {
        read(&[&format!("--{flag}={value}")], &[])
    }

    /// The error line for `--flag=value`, whose form it checks.
    fn refusal(flag: &str, value: &str) -> String {
        let stop = given(flag, value).expect_err(value);
        assert_eq!(stop.status, 2, "{stop:?}");
        assert!(!stop.text.contains('\n'), "{stop:?}");
        let begin = format!("wsify: --{flag} cannot be ");
        assert!(stop.text.starts_with(&begin), "{stop:?}");
        assert!(stop.text.contains(": accepted is "), "{stop:?}");
        stop.text
    }

    /// `--flag=value` is refused, in a line that shows the value.
    fn refused(flag: &str, values: &[&str]) {
        for value in values {
            let line = refusal(flag, value);
            assert!(line.contains(&format!("{value:?}")), "{line}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = read(&[], &[]).unwrap();
        assert_eq!(config.listen_addr, [Listen::AllInterfaces(3000)]);
        assert_eq!(config.authorizer_url, None);
        assert_eq!(config.authorizer_timeout, Duration::from_secs(5));
        assert_eq!(config.authorizer_workers, Workers::AsFdsAllow(256));
        assert_eq!(config.authorizer_queue, 10_000);
        assert_eq!(config.broker, Broker::Memory);
        assert_eq!(config.broker_prefix, "");
        assert_eq!(config.broadcasting_key, None);
        assert_eq!(config.allowed_origins, Origins::Any);
        assert_eq!(config.trusted_proxies, Proxies::default());
        assert!(!config.proxy_protocol);
        assert_eq!(config.max_connections, None);
        assert_eq!(config.max_connections_per_ip, 0);
        assert_eq!(config.max_message_size, 1 << 20);
        assert_eq!(config.max_channels, 1_000);
        assert_eq!(config.max_message_rate, 0);
        assert_eq!(config.max_queue_size, 1 << 20);
        assert_eq!(config.max_total_queue_size, 1 << 30);
        assert_eq!(config.handshake_timeout, Duration::from_secs(10));
        assert_eq!(config.ping_interval, Some(Duration::from_secs(25)));
        assert_eq!(config.drain_timeout, Duration::from_secs(10));
        assert_eq!(config.log_level, Level::Info);
    }

    #[test]
    fn a_flag_is_spelled_in_four_ways() {
        for arguments in [
            &["--broker-prefix", "p"][..],
            &["--broker-prefix=p"],
            &["-broker-prefix", "p"],
            &["-broker-prefix=p"],
            // The last of two wins.
            &["--broker-prefix", "q", "-broker-prefix=p"],
        ] {
            let config = read(arguments, &[]).unwrap();
            assert_eq!(config.broker_prefix, "p", "{arguments:?}");
        }
        for (arguments, prefix) in [
            (&["--broker-prefix=-x=y"][..], "-x=y"),
            (&["--broker-prefix", "--help"], "--help"),
            (&["--broker-prefix", "--"], "--"),
            (&["--broker-prefix="], ""),
            (&["--broker-prefix", ""], ""),
        ] {
            let config = read(arguments, &[]).unwrap();
            assert_eq!(config.broker_prefix, prefix, "{arguments:?}");
        }
    }

    #[test]
    fn a_variable_counts_where_there_is_no_flag() {
        let variables = [
            ("WSIFY_MAX_CHANNELS", "7"),
            ("WSIFY_LISTEN_ADDR", ":1, unix:/run/w.sock ,"),
            ("WSIFY_LOG_LEVEL", ""),
            ("WSIFY_PORT", "tcp://10.0.0.1:3000"),
            ("MAX_QUEUE_SIZE", "nonsense"),
        ];
        let config = read(&[], &variables).unwrap();
        assert_eq!(config.max_channels, 7);
        let unix = Listen::Unix("/run/w.sock".into());
        assert_eq!(config.listen_addr, [Listen::AllInterfaces(1), unix]);
        assert_eq!(config.log_level, Level::Info);
        let config = read(&["--max-channels=8", "-listen-addr=:2"], &variables).unwrap();
        assert_eq!(config.max_channels, 8);
        assert_eq!(config.listen_addr, [Listen::AllInterfaces(2)]);
        // An empty flag is given all the same.
        let key = [("WSIFY_BROADCASTING_KEY", "k")];
        let config = read(&["--broadcasting-key="], &key).unwrap();
        assert_eq!(config.broadcasting_key, None);
        // A flag's variable is not even looked at.
        let nonsense = [("WSIFY_MAX_CHANNELS", "nonsense")];
        assert!(read(&["--max-channels=8"], &nonsense).is_ok());
        let stop = read(&[], &nonsense).unwrap_err();
        assert_eq!(
            stop.text,
            "wsify: WSIFY_MAX_CHANNELS cannot be \"nonsense\": \
             accepted is a whole number from 1 to 1000000"
        );
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for arguments in [&["--help"][..], &["-h"], &["-help"], &["--version"]] {
            let stop = read(arguments, &[]).unwrap_err();
            assert_eq!(stop.status, 0, "{arguments:?}");
        }
        let stop = read(&["-version"], &[]).unwrap_err();
        assert_eq!(stop.text, concat!("wsify ", env!("CARGO_PKG_VERSION")));
        let help = read(&["--max-channels", "1", "--help"], &[]).unwrap_err();
        for flag in FLAGS {
            let (name, variable) = (flag.name(), flag.variable());
            for shown in [&format!("--{name} "), &variable, flag.default, flag.value] {
                assert!(help.text.contains(shown), "{shown}");
            }
        }
        let wide = help.text.lines().find(|line| line.len() > 80);
        assert_eq!(wide, None);
        let headings: Vec<_> = help
            .text
            .lines()
            .filter(|line| FLAGS.iter().any(|flag| flag.group == *line))
            .collect();
        let mut groups: Vec<_> = FLAGS.iter().map(|flag| flag.group).collect();
        groups.dedup();
        assert_eq!(
            headings, groups,
            "each heading once, in the order of the table"
        );
    }

    #[test]
    fn what_is_no_flag_is_refused_in_one_line() {
        for (arguments, named) in [
            (&["--lisen-addr", ":80"][..], "--lisen-addr"),
            (&["--lisen-addr=secret"], "--lisen-addr"),
            (&["-x"], "--x"),
            (&["--help=me"], "--help"),
            (&["--lis\nten\u{1b}"], r"--lis\nten\u{1b}"),
            (&["8080"], "\"8080\""),
            (&["--max-channels", "1", "stray"], "\"stray\""),
            (&["--"], "\"--\""),
            (&["-"], "\"-\""),
            (&["--=1"], "\"--=1\""),
            (&[""], "\"\""),
            (&["--log-level"], "error|warn|info|debug"),
        ] {
            let stop = read(arguments, &[]).unwrap_err();
            assert_eq!(stop.status, 2, "{arguments:?}");
            assert!(stop.text.contains(named), "{stop:?}");
            assert!(!stop.text.contains('\n'), "{stop:?}");
            assert!(!stop.text.contains("secret"), "{stop:?}");
        }
        let stop = read(&["-sausages"], &[]).unwrap_err();
        assert!(
            stop.text
                .contains("--listen-addr, --reuse-port, --authorizer-url")
        );
    }

    #[test]
    fn a_slip_is_told_what_it_may_have_meant() {
        for (arguments, meant) in [
            (&["--lisen-addr", ":80"][..], Some("--listen-addr")),
            (&["-max-conections=5"], Some("--max-connections")),
            (&["--Drain-Timeout=5s"], Some("--drain-timeout")),
            (&["--hlep"], Some("--help")),
            (&["--verison"], Some("--version")),
            (&["--sausages"], None),
            (&["--port=80"], None),
            (&["--x"], None),
            (&["--log-level=wran"], Some("warn")),
            (&["--log-level=DEBUGG"], Some("debug")),
            (&["--log-level=purple"], None),
            (&["--broker-driver=reddis"], Some("redis")),
            (&["--broker-driver=kafka"], None),
            (&["--max-channels=max-channel"], None),
        ] {
            let stop = read(arguments, &[]).unwrap_err();
            let hint = stop.text.split_once(" did you mean ");
            let hint = hint.and_then(|(_, rest)| rest.split_once('?'));
            assert_eq!(hint.map(|(word, _)| word), meant, "{stop:?}");
        }
        let long = format!("--{}", "x".repeat(1_000_000));
        assert_eq!(read(&[&long], &[]).unwrap_err().status, 2);
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let odd = || OsString::from_vec(b"--broker-prefix=\xff".to_vec());
        let arguments = [
            vec![odd()],
            vec!["--broker-prefix".into(), OsString::from_vec(vec![0xff])],
        ];
        for arguments in arguments {
            let stop = Config::read(arguments, |_| None).unwrap_err();
            assert_eq!(stop.status, 2);
            assert!(stop.text.ends_with("is not UTF-8"), "{stop:?}");
        }
        let env = |name: &str| (name == "WSIFY_BROADCASTING_KEY").then(odd);
        let stop = Config::read([], env).unwrap_err();
        assert_eq!(stop.text, "wsify: WSIFY_BROADCASTING_KEY is not UTF-8");
    }

    #[test]
    fn listen_addresses() {
        let ip = |text: &str| Listen::Ip(text.parse().unwrap());
        let host = |name: &str, port| Listen::Host(name.to_owned(), port);
        for (text, expected) in [
            (":0", Listen::AllInterfaces(0)),
            (":65535", Listen::AllInterfaces(65535)),
            ("127.0.0.1:80", ip("127.0.0.1:80")),
            ("[::1]:80", ip("[::1]:80")),
            ("[fe80::1%2]:80", ip("[fe80::1%2]:80")),
            ("localhost:80", host("localhost", 80)),
            ("my_host.example.com.:80", host("my_host.example.com.", 80)),
            (
                "unix:/run/wsify.sock",
                Listen::Unix("/run/wsify.sock".into()),
            ),
        ] {
            let config = given("listen-addr", text).unwrap();
            assert_eq!(config.listen_addr, [expected], "{text}");
            assert_eq!(config.listen_addr[0].to_string(), text);
        }
        let config = read(&["-listen-addr", ":1", "--listen-addr=:2,:3"], &[]).unwrap();
        assert_eq!(config.listen_addr, [1, 2, 3].map(Listen::AllInterfaces));
        let long = format!("unix:/{}", "x".repeat(107));
        refused(
            "listen-addr",
            &[
                "",
                ",",
                "3000",
                ":",
                ":x",
                ":-1",
                ":+1",
                ":65536",
                "host",
                "host:",
                "::1:80",
                "*:80",
                "[::1]",
                "[::1",
                "[::1]80",
                "[]:80",
                "[1.2.3.4]:80",
                "1.2.3.4.5:80",
                "1.2.3:80",
                "256.1.1.1:80",
                "http://host:80",
                "ho st:80",
                "unix:",
                "unix:run",
                ":1,x",
                &long,
            ],
        );
    }

    #[test]
    fn authorizer_urls() {
        for url in [
            "http://localhost",
            "http://127.0.0.1:8000/auth?x=y",
            "https://user:pass@auth.example.com/a/b",
            "HTTP://host/",
            "http://[::1]:9/",
            "http://my_service:9000",
        ] {
            let found = given("authorizer-url", url).unwrap().authorizer_url;
            assert!(found.is_some(), "{url}");
        }
        assert_eq!(given("authorizer-url", "").unwrap().authorizer_url, None);
        refused(
            "authorizer-url",
            &[
                "localhost",
                "localhost:8000",
                "/auth",
                "ftp://host/",
                "http://",
                "http:///auth",
                "http://:80/",
                "http://host:0/",
                "http://host:99999/",
                "http://host:/",
                "http://ho st/",
                "http://[::1/",
                " http://h/",
            ],
        );
    }

    #[test]
    fn brokers() {
        let stop = given("broker-driver", "redis").unwrap_err();
        assert!(
            stop.text
                .starts_with("wsify: --broker-dsn cannot be \"\": accepted is redis://")
        );
        assert!(given("broker-driver", "Memory").is_ok());
        refused("broker-driver", &["", "kafka", "redis "]);
        // Only the driver that uses it looks at it.
        assert_eq!(
            given("broker-dsn", "nonsense").unwrap().broker,
            Broker::Memory
        );
    }

    #[test]
    fn reuse_port() {
        let on =
            |arguments: &[&str], env: &[(&str, &str)]| read(arguments, env).unwrap().reuse_port;
        assert!(!on(&[], &[]));
        for spelled in [
            &["--reuse-port"][..],
            &["-reuse-port", "--max-channels=1"],
            &["--reuse-port", "-max-channels", "1"],
            &["--reuse-port=true"],
            &["--reuse-port", "TRUE"],
            &["--reuse-port=false", "--reuse-port"],
        ] {
            assert!(on(spelled, &[]), "{spelled:?}");
        }
        assert!(!on(&["--reuse-port", "false"], &[]));
        let variable = [("WSIFY_REUSE_PORT", "true")];
        assert!(on(&[], &variable));
        assert!(!on(&["--reuse-port=false"], &variable));
        refused("reuse-port", &["", "yes", "1", "3000"]);
    }

    #[test]
    fn durations() {
        let time = |text: &str| given("handshake-timeout", text).unwrap().handshake_timeout;
        assert_eq!(time("500ms"), Duration::from_millis(500));
        assert_eq!(time("2m"), Duration::from_secs(120));
        assert_eq!(time("1m 30s"), Duration::from_secs(90));
        assert_eq!(time("1.5s"), Duration::from_millis(1500));
        assert_eq!(time("24h"), Duration::from_secs(86_400));
        let nonsense = [
            "",
            "5",
            "s",
            "-5s",
            "+5s",
            "5 parsecs",
            "1ns",
            "25h",
            "1y",
            "18446744073709551616s",
            "18446744073709551615s1000000000ns",
        ];
        for flag in ["authorizer-timeout", "handshake-timeout"] {
            refused(flag, &nonsense);
            refused(flag, &["0", "0s"]);
        }
        for flag in ["ping-interval", "drain-timeout"] {
            refused(flag, &nonsense);
        }
        for zero in ["0", "0s", "0ms"] {
            assert_eq!(given("ping-interval", zero).unwrap().ping_interval, None);
            let drain = given("drain-timeout", zero).unwrap().drain_timeout;
            assert_eq!(drain, Duration::ZERO);
        }
        assert!(refusal("drain-timeout", "x").contains("accepted is 0, or"));
    }

    #[test]
    fn sizes_and_counts() {
        for (text, bytes) in [
            ("1", 1),
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1MiB", 1 << 20),
            ("1.5MiB", 3 << 19),
            ("1MB", 1_000_000),
            ("1GiB", 1 << 30),
        ] {
            let config = given("max-message-size", text).unwrap();
            assert_eq!(config.max_message_size, bytes, "{text}");
            let config = given("max-queue-size", text).unwrap();
            assert_eq!(config.max_queue_size, bytes, "{text}");
        }
        let nonsense = [
            "",
            "0",
            "0KiB",
            "-1",
            "+1",
            "1.5",
            "KiB",
            "1XB",
            "1073741825",
            "2GiB",
            "16EiB",
            "99999999999EiB",
            "99999999999999999999",
            "inf",
            "NaN",
            "0x10",
            "1..5KiB",
        ];
        refused("max-message-size", &nonsense);
        refused("max-queue-size", &nonsense);
        let total = given("max-total-queue-size", "64GiB").unwrap();
        assert_eq!(total.max_total_queue_size, 64 << 30);
        refused("max-total-queue-size", &["", "0", "-1", "2TiB", "x"]);

        let nonsense = ["", "-1", "+1", "1.0", "ten", " 1", "99999999999999999999"];
        for flag in ["authorizer-workers", "authorizer-queue", "max-channels"] {
            refused(flag, &nonsense);
            refused(flag, &["0"]);
        }
        refused("max-connections", &nonsense);
        refused("max-connections-per-ip", &nonsense);
        refused("max-message-rate", &nonsense);
        refused("max-message-rate", &["1000001"]);
        refused("authorizer-workers", &["1025"]);
        let config = read(&["--max-connections=1", "--authorizer-workers=1024"], &[]).unwrap();
        assert_eq!(config.max_connections, Some(1));
        assert_eq!(config.authorizer_workers, Workers::Exactly(1024));
        assert_eq!(config.authorizer_workers.within(80), 1024);
        for (fds, workers) in [(1 << 20, 256), (1024, 128), (4, 1)] {
            assert_eq!(Workers::AsFdsAllow(256).within(fds), workers, "{fds}");
        }
    }

    #[test]
    fn allowed_origins() {
        let list = |text: &str| given("allowed-origins", text).unwrap().allowed_origins;
        assert_eq!(list("*"), Origins::Any);
        let listed = list("https://App.Example.com, http://localhost:8080,null,file://,");
        for origin in [
            "https://app.example.com",
            "http://localhost:8080",
            "null",
            "file://",
        ] {
            assert!(listed.allows(origin), "{origin}");
        }
        assert!(!listed.allows("https://b.example.com"));
        let repeated = ["--allowed-origins=http://a", "--allowed-origins=http://b"];
        let config = read(&repeated, &[]).unwrap();
        assert_eq!(config.allowed_origins, list("http://a,http://b"));
        // Which items are wrong is the business of `Origins`.
        refused("allowed-origins", &["", ",", "app.example.com", "https://"]);
    }

    #[test]
    fn an_error_names_the_wrong_item_of_a_list() {
        for (flag, value, item) in [
            ("allowed-origins", "https://a, https://b/,c", "https://b/"),
            ("allowed-origins", "*,https://", "https://"),
            ("listen-addr", ":1, localhost ,:2", "localhost"),
            ("trusted-proxies", "10.0.0.1,10.0.0.0/33", "10.0.0.0/33"),
        ] {
            let line = refusal(flag, value);
            let named = format!("--{flag} cannot be {value:?} because of {item:?}: accepted is ");
            assert!(line.contains(&named), "{line}");
        }
        let repeated = ["--listen-addr=:1", "--listen-addr=:x"];
        let stop = read(&repeated, &[]).unwrap_err();
        assert!(stop.text.contains(r#"":1,:x" because of ":x""#), "{stop:?}");
        // The only item is not named twice.
        assert!(refusal("listen-addr", ":x").contains("cannot be \":x\": accepted is "));
    }

    #[test]
    fn trusted_proxies() {
        let list = |text: &str| given("trusted-proxies", text).unwrap().trusted_proxies;
        let peer = |text: &str| Some(text.parse().unwrap());
        let some = list("10.0.0.0/8, ::1");
        assert!(some.trusts(peer("10.1.2.3")) && some.trusts(peer("::1")));
        assert!(some.trusts(None) && !some.trusts(peer("127.0.0.1")));
        assert!(list("unix").trusts(None) && !list("").trusts(None));
        let repeated = ["--trusted-proxies=10.0.0.1", "--trusted-proxies=10.0.0.2"];
        let config = read(&repeated, &[]).unwrap();
        assert!(config.trusted_proxies.trusts(peer("10.0.0.1")));
        refused(
            "trusted-proxies",
            &["10.0.0.0/33", "localhost", "*", "10.0.0.1,x", "10.0.0.1:80"],
        );
    }

    #[test]
    fn a_switch_may_stand_alone() {
        for (arguments, on) in [
            (&["--proxy-protocol"][..], true),
            (&["-proxy-protocol"], true),
            (&["--proxy-protocol", "--max-channels", "3"], true),
            (&["--proxy-protocol", "true"], true),
            (&["--proxy-protocol=TRUE"], true),
            (&["--proxy-protocol", "false"], false),
            (&["--proxy-protocol=false"], false),
            (&["--proxy-protocol", "--proxy-protocol=false"], false),
        ] {
            let config = read(arguments, &[]).unwrap();
            assert_eq!(config.proxy_protocol, on, "{arguments:?}");
        }
        assert!(
            read(&[], &[("WSIFY_PROXY_PROTOCOL", "true")])
                .unwrap()
                .proxy_protocol
        );
        refused("proxy-protocol", &["", "yes", "1", "v2"]);
    }

    #[test]
    fn log_levels() {
        for level in Level::ALL {
            assert_eq!(given("log-level", level.name()).unwrap().log_level, level);
        }
        assert_eq!(given("log-level", "WARN").unwrap().log_level, Level::Warn);
        refused("log-level", &["", "trace", "warning"]);
    }

    #[test]
    fn how_and_what_is_logged() {
        assert_eq!(read(&[], &[]).unwrap().log_format, None);
        for format in Format::ALL {
            let config = given("log-format", format.name()).unwrap();
            assert_eq!(config.log_format, Some(format));
        }
        refused("log-format", &["xml", "auto"]);
        for (text, access_log) in [
            ("off", AccessLog::Off),
            ("errors", AccessLog::Errors),
            ("ALL", AccessLog::All),
        ] {
            assert_eq!(given("access-log", text).unwrap().access_log, access_log);
        }
        assert_eq!(read(&[], &[]).unwrap().access_log, AccessLog::Errors);
        refused("access-log", &["", "none", "error"]);
        for (env, colours) in [
            (&[] as &[_], true),
            (&[("NO_COLOR", "")], true),
            (&[("NO_COLOR", "1")], false),
            (&[("TERM", "dumb")], false),
            (&[("TERM", "xterm")], true),
        ] {
            assert_eq!(read(&[], env).unwrap().colours, colours, "{env:?}");
        }
    }

    #[test]
    fn the_playground_is_a_switch() {
        let on = |arguments: &[&str]| read(arguments, &[]).unwrap().playground;
        assert!(!on(&[]));
        assert!(on(&["--playground"]));
        assert!(on(&["-playground", "--max-channels", "1"]));
        assert!(on(&["--playground", "TRUE"]));
        assert!(!on(&["--playground=false"]));
        let env = [("WSIFY_PLAYGROUND", "true")];
        assert!(read(&[], &env).unwrap().playground);
        refused("playground", &["", "yes", "1"]);
    }

    #[test]
    fn what_a_service_manager_says() {
        let us = std::process::id().to_string();
        let found = |env: &[(&str, &str)]| {
            let config = read(&[], env).unwrap();
            (config.listen_fds, config.notify_socket, config.watchdog)
        };
        assert_eq!(found(&[]), (0, None, None));
        let all = [
            ("LISTEN_PID", us.as_str()),
            ("LISTEN_FDS", "2"),
            ("NOTIFY_SOCKET", "@x"),
            ("WATCHDOG_PID", us.as_str()),
            ("WATCHDOG_USEC", "30000000"),
        ];
        let time = Some(Duration::from_secs(30));
        assert_eq!(found(&all), (2, Some("@x".into()), time));
        assert_eq!(found(&[("WATCHDOG_USEC", "30000000")]).2, time);
        for env in [
            &[("LISTEN_FDS", "2")][..],
            &[("LISTEN_FDS", "2"), ("LISTEN_PID", "1")],
            &[("LISTEN_FDS", "-2"), ("LISTEN_PID", &us)],
            &[("NOTIFY_SOCKET", "")],
            &[("WATCHDOG_USEC", "0")],
            &[("WATCHDOG_USEC", "soon")],
            &[("WATCHDOG_USEC", "1"), ("WATCHDOG_PID", "1")],
        ] {
            assert_eq!(found(env), (0, None, None), "{env:?}");
        }
        let many = [("LISTEN_FDS", "4000000000"), ("LISTEN_PID", us.as_str())];
        assert_eq!(found(&many).0, 64);
    }

    #[test]
    fn no_secret_is_shown() {
        let config = read(
            &[
                "--broadcasting-key=hunter2",
                "--authorizer-url=https://user:hunter2@host/path?token=hunter2",
                "--broker-driver=redis",
                "--broker-dsn=redis://:hunter2@host:1/2",
            ],
            &[],
        )
        .unwrap();
        assert_eq!(
            config.broadcasting_key.as_ref().unwrap().expose(),
            "hunter2"
        );
        let shown = format!("{config:?} {}", config.authorizer_url.as_ref().unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("https://host/path?token=***"), "{shown}");
        let line = refusal("broadcasting-key", "hunter2\n");
        assert!(!line.contains("hunter2"), "{line}");
        for (flag, url, shown) in [
            ("authorizer-url", "ftp://u:hunter2@h/p", "ftp://***@h/p"),
            ("authorizer-url", "ftp://h/p?hunter2", "ftp://h/p***"),
            ("authorizer-url", "ftp://h/p?x=a@hunter2", "ftp://***"),
            ("authorizer-url", "u:hunter2@h", "***@h"),
            ("broker-dsn", "redis://:hun?ter2@h/x", "redis://***"),
            ("broker-dsn", "redis://:hunter2", "redis://:***"),
            ("broker-dsn", "u:hunter2@h://x", "***@h://x"),
            ("broker-dsn", "redis://h:99999", "redis://h:99999"),
        ] {
            let driver = match flag {
                "broker-dsn" => "--broker-driver=redis",
                _ => "--broker-driver=memory",
            };
            let flag = format!("--{flag}={url}");
            let line = read(&[driver, &flag], &[]).expect_err(url).text;
            assert!(line.contains(&format!("{shown:?}")), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
        let stop = read(&["redis://:hunter2@host"], &[]).unwrap_err();
        assert!(!stop.text.contains("hunter2"), "{stop:?}");
    }
}
