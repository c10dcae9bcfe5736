//! The command line and the environment, turned once into checked types.
//!
//! Owns: what an operator can set. Knows: what a usable value looks like. Never knows: what a value is used for. No
//! other file reads settings from arguments or variables.

mod arguments;
mod dsn;
mod flags;
mod help;
mod stop;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use self::arguments::{Arguments, Setting};
pub use self::dsn::{Credentials, RedisAddress, RedisDsn, RedisServers};
pub use self::flags::{FLAGS, Flag};
pub use self::stop::Stop;
pub use self::values::{AccessLog, AuthorizerFailure, Listen, Workers};
use crate::authorizer::AuthorizerSettings;
use crate::log::{Format, Level};
use crate::secret::Secret;
use crate::webhook::{Url, WebhookSettings};
use crate::wire::answer_fields::AnswerLimits;
use crate::wire::event::EventKinds;
use crate::wire::forwarded::Proxies;
use crate::wire::origins::Origins;

/// Everything an operator can set, checked. Field names are the flags'.
#[derive(Clone, Debug)]
pub struct Config {
    /// Not empty, as it is read.
    pub listen_addr: Vec<Listen>,
    /// TCP listeners share their ports with other processes that have this flag.
    pub reuse_port: bool,
    /// `None`: everything is allowed.
    pub authorizer_url: Option<Url>,
    pub authorizer_timeout: Duration,
    pub authorizer_workers: Workers,
    pub authorizer_queue: usize,
    /// Questions in one call at most; 1: each is a call of its own.
    pub authorizer_batch: usize,
    pub authorizer_failure: AuthorizerFailure,
    /// With `hold`.
    pub authorizer_hold: Duration,
    /// Two at most; empty: calls are not signed.
    pub authorizer_key: Vec<Secret>,
    pub events: EventsConfig,
    pub broker: BrokerChoice,
    pub broker_prefix: String,
    /// `None`: the backend endpoints answer local peers only (`docs/api.md#the-key`).
    pub broadcasting_key: Option<Secret>,
    pub allowed_origins: Origins,
    /// Empty: no proxy is trusted.
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
    /// Whether permessage-deflate is agreed to.
    pub compression: bool,
    /// Bytes.
    pub compression_min_size: usize,
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
    /// `NOTIFY_SOCKET`: where a service manager listens for this process's state.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`: the service manager considers this process hung after this time without a ping.
    pub watchdog: Option<Duration>,
    /// Only try whether a start would work.
    pub check: bool,
    /// `SSL_CERT_FILE`: certificates that are trusted in addition to the system's.
    pub cert_file: Option<PathBuf>,
}

/// Which events are sent, and where.
#[derive(Clone, Debug)]
pub struct EventsConfig {
    /// `None`: events have no receiver.
    pub url: Option<Url>,
    pub kinds: EventKinds,
    /// Events that may wait.
    pub queue: usize,
}

impl EventsConfig {
    fn read(set: impl Fn(Flag) -> Result<Setting, Stop>) -> Result<EventsConfig, Stop> {
        use flags::*;
        use values::*;

        Ok(EventsConfig {
            url: set(EVENTS_URL)?.checked(|t| webhook_url(t, "no receiver"))?,
            kinds: set(EVENTS)?.checked_list(EventKinds::ACCEPTED, EventKinds::parse)?,
            // An event has a few hundred bytes: gigabytes at most.
            queue: set(EVENTS_QUEUE)?.checked(|t| count(t, 1..=10_000_000))?,
        })
    }
}

/// How servers share their channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerChoice {
    Memory,
    Redis(RedisDsn),
}

impl fmt::Display for BrokerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerChoice::Memory => f.write_str("memory"),
            BrokerChoice::Redis(dsn) => dsn.fmt(f),
        }
    }
}

/// What a service manager passes in the environment (sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3)).
struct ServiceManager {
    listen_fds: usize,
    notify_socket: Option<OsString>,
    watchdog: Option<Duration>,
}

/// Sockets of a service manager: further ones are ignored.
const MOST_LISTEN_FDS: u64 = 64;

impl ServiceManager {
    fn read(env: impl Fn(&str) -> Option<OsString>) -> ServiceManager {
        let number = |name| {
            let text = env(name)?;
            text.to_str().and_then(values::digits)?.parse::<u64>().ok()
        };
        let us = Some(u64::from(std::process::id()));
        // Children of the started process inherit these variables as well.
        let listen_fds = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == us);
        let watchdog = number("WATCHDOG_USEC").filter(|&time| {
            time > 0 && (env("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == us)
        });
        ServiceManager {
            listen_fds: listen_fds.map_or(0, |count| count.min(MOST_LISTEN_FDS) as usize),
            notify_socket: env("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }
}

fn workers(setting: &Setting) -> Result<Workers, Stop> {
    // Each worker is a thread.
    let most = setting.checked(|text| values::count(text, 1..=1024))?;
    Ok(if setting.given {
        Workers::Exactly(most)
    } else {
        Workers::AsFdsAllow(most)
    })
}

/// The DSN is not looked at without redis.
fn broker(set: impl Fn(Flag) -> Result<Setting, Stop>) -> Result<BrokerChoice, Stop> {
    Ok(match set(flags::BROKER_DRIVER)?.checked(values::driver)? {
        values::Driver::Memory => BrokerChoice::Memory,
        values::Driver::Redis => BrokerChoice::Redis(set(flags::BROKER_DSN)?.checked(dsn::parse)?),
    })
}

fn cert_file(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = env("SSL_CERT_FILE").filter(|path| !path.is_empty());
    path.map(PathBuf::from)
}

/// Whether a terminal may be shown colours.
fn colours(env: impl Fn(&str) -> Option<OsString>) -> bool {
    let dumb = env("TERM").is_some_and(|term| term == *"dumb");
    env("NO_COLOR").is_none_or(|set| set.is_empty()) && !dumb
}

impl Config {
    /// Reads the arguments (the program's name not among them) and the variables they may leave to the environment.
    ///
    /// # Errors
    /// [`Stop`] with status 0 for `--help` and `--version`, and with 2 for an unknown flag or a value that
    /// cannot be used. Its line names the flag, the value and what is accepted.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Config, Stop> {
        use flags::*;
        use values::*;

        let given = Arguments::parse(arguments)?;
        let set = |flag| given.setting(flag, &env);
        let manager = ServiceManager::read(&env);
        Ok(Config {
            listen_addr: set(LISTEN_ADDR)?.checked_list(LISTEN, listen_addresses)?,
            reuse_port: set(REUSE_PORT)?.checked(switch)?,
            authorizer_url: set(AUTHORIZER_URL)?.checked(|t| webhook_url(t, "no authorizer"))?,
            authorizer_timeout: set(AUTHORIZER_TIMEOUT)?.checked(some_duration)?,
            authorizer_workers: workers(&set(AUTHORIZER_WORKERS)?)?,
            // A question waits with its JSON, of a few hundred bytes: gigabytes at most.
            authorizer_queue: set(AUTHORIZER_QUEUE)?.checked(|t| count(t, 1..=10_000_000))?,
            authorizer_batch: set(AUTHORIZER_BATCH)?.checked(|t| count(t, 1..=1000))?,
            authorizer_failure: set(AUTHORIZER_FAILURE)?.checked(authorizer_failure)?,
            authorizer_hold: set(AUTHORIZER_HOLD)?.checked(some_duration)?,
            authorizer_key: set(AUTHORIZER_KEY)?.checked(signing_keys)?,
            events: EventsConfig::read(set)?,
            broker: broker(set)?,
            broker_prefix: set(BROKER_PREFIX)?.checked(|t| Ok(t.to_owned()))?,
            broadcasting_key: set(BROADCASTING_KEY)?.checked(key)?,
            allowed_origins: set(ALLOWED_ORIGINS)?
                .checked_list(Origins::ACCEPTED, Origins::parse)?,
            trusted_proxies: set(TRUSTED_PROXIES)?.checked_list(PROXIES, Proxies::parse)?,
            proxy_protocol: set(PROXY_PROTOCOL)?.checked(switch)?,
            playground: set(PLAYGROUND)?.checked(switch)?,
            // Far more than one machine has ports or memory for.
            max_connections: Some(set(MAX_CONNECTIONS)?.checked(|t| count(t, 0..=100_000_000))?)
                .filter(|&limit| limit > 0),
            max_connections_per_ip: set(MAX_CONNECTIONS_PER_IP)?
                .checked(|t| count(t, 0..=100_000_000))?,
            max_message_size: set(MAX_MESSAGE_SIZE)?.checked(size)?,
            max_channels: set(MAX_CHANNELS)?.checked(|t| count(t, 1..=1_000_000))?,
            // No client sends more in a second than the server can read.
            max_message_rate: set(MAX_MESSAGE_RATE)?.checked(|t| count(t, 0..=1_000_000))? as u64,
            max_queue_size: set(MAX_QUEUE_SIZE)?.checked(size)?,
            max_total_queue_size: set(MAX_TOTAL_QUEUE_SIZE)?.checked(total_size)?,
            compression: set(COMPRESSION)?.checked(on_or_off)?,
            compression_min_size: set(COMPRESSION_MIN_SIZE)?.checked(size)?,
            handshake_timeout: set(HANDSHAKE_TIMEOUT)?.checked(some_duration)?,
            ping_interval: Some(set(PING_INTERVAL)?.checked(duration_or_zero)?)
                .filter(|interval| !interval.is_zero()),
            drain_timeout: set(DRAIN_TIMEOUT)?.checked(duration_or_zero)?,
            log_level: set(LOG_LEVEL)?.checked(level)?,
            log_format: set(LOG_FORMAT)?.checked(log_format)?,
            colours: colours(&env),
            access_log: set(ACCESS_LOG)?.checked(access_log)?,
            listen_fds: manager.listen_fds,
            notify_socket: manager.notify_socket,
            watchdog: manager.watchdog,
            check: set(CHECK)?.checked(switch)?,
            cert_file: cert_file(&env),
        })
    }

    /// How the receiver of events is called, if there is one.
    pub fn events_webhook(&self) -> Option<WebhookSettings> {
        Some(WebhookSettings {
            url: self.events.url.clone()?,
            timeout: self.authorizer_timeout,
            cert_file: self.cert_file.clone(),
            keys: self.authorizer_key.clone(),
            probes: self.check,
            called_for: "an https receiver of events",
        })
    }

    /// What the authorizer is started with, if there is one, where a process may have `fds` file descriptors.
    pub fn authorizer(&self, fds: usize) -> Option<AuthorizerSettings> {
        let url = self.authorizer_url.clone()?;
        Some(AuthorizerSettings {
            url,
            timeout: self.authorizer_timeout,
            workers: self.authorizer_workers.within(fds, self.authorizer_batch),
            queue: self.authorizer_queue,
            batch: self.authorizer_batch,
            limits: AnswerLimits {
                channels: self.max_channels,
                content: self.max_message_size,
            },
            cert_file: self.cert_file.clone(),
            keys: self.authorizer_key.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
