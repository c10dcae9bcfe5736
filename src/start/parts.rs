//! Parts that every server is built with, however it begins.
//!
//! Owns: the split of the file descriptors, how the configuration becomes each part's settings, how the parts become a
//! server. Knows: how each part is opened. Never knows: in which order.

use std::io;

use std::sync::Arc;
use std::time::Instant;

use mio::{Poll, Registry, Waker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::acceptor::Acceptor;
use crate::authorizer::Authorizer;
use crate::broker::Broker;
use crate::broker::redis::RedisSettings;
use crate::clock::millis;
use crate::config::{BrokerChoice, Config, RedisDsn, RedisServers, Stop};
use crate::connection::Limits;
use crate::events::EventSender;
use crate::handover::{Handover, Program};
use crate::hub::{EventSettings, FailurePolicy, Hub, Settings};
use crate::listener::{ClientSocket, Listener};
use crate::log::{Log, Value};
use crate::secret::Secret;
use crate::server::{FIRST_LINK, Parts, SIGNALS, Server, WAKER};
use crate::signals::Signals;
use crate::systemd::Manager;
use crate::tls;
use crate::wire::node_message::envelope::NodeSeal;

/// File descriptors kept for the log, the poll, signals and the like, and for a handover.
const RESERVED_FDS: usize = 24;
/// File descriptors kept for redis: two links, some sentinels, and lookups of their names.
const BROKER_FDS: usize = 16;
/// The same for a cluster, of as many masters as most have.
const CLUSTER_FDS: usize = 256;
/// File descriptors kept for the receiver of events: a connection, and a lookup of its name.
const EVENTS_FDS: usize = 4;
/// Sockets that never are WebSockets, so that probes and backends are served when all WebSockets are taken. With few
/// file descriptors, a quarter of the sockets.
const RESERVED_REQUESTS: usize = 128;

/// What every server has, however it begins.
pub(super) struct LoopParts {
    /// The limit on file descriptors.
    pub fds: usize,
    pub poll: Poll,
    pub signals: Signals,
    pub waker: Arc<Waker>,
}

impl LoopParts {
    pub fn open() -> Result<LoopParts, Stop> {
        let fds = usize::try_from(raise_fd_limit()).unwrap_or(usize::MAX);
        let poll =
            Poll::new().map_err(|e| Stop::failed(format_args!("cannot create the poll: {e}")))?;
        let signals = register_signals(poll.registry())?;
        let waker = Waker::new(poll.registry(), WAKER)
            .map_err(|e| Stop::failed(format_args!("cannot create the poll's waker: {e}")))?;
        Ok(LoopParts {
            fds,
            poll,
            signals,
            waker: Arc::new(waker),
        })
    }

    /// How many connections there may be beside this many listeners and workers, and what follows for the hub.
    pub fn divide(
        &self,
        config: &Config,
        (listeners, workers): (usize, usize),
        node: u64,
        log: &Log,
    ) -> (Capacity, Settings) {
        // Where threads cannot have a descriptor table of their own, their descriptors are in this one.
        let capacity = Capacity::of(self.fds, reserved_fds(config) + listeners + workers);
        let max_connections = max_connections(config, &capacity, log);
        let settings = Settings {
            slots: capacity.sockets,
            ..settings(config, max_connections, workers, node)
        };
        (capacity, settings)
    }

    /// The server of all its parts.
    pub fn server(self, config: &Config, capacity: Capacity, log: Log, own: OwnParts) -> Server {
        let reserved = capacity.sockets - capacity.websockets;
        Server::new(Parts {
            poll: self.poll,
            signals: self.signals,
            acceptor: Acceptor::new(own.listeners, capacity.sockets, reserved, log.clone()),
            hub: own.hub,
            authorizer: own.authorizer,
            broker: own.broker,
            events: own.events,
            manager: own.manager,
            handover: Handover::new(own.program),
            log,
            node: own.node,
            started: own.started,
            drain_time: millis(config.drain_timeout),
            authorizer_timeout: millis(config.authorizer_timeout),
        })
    }
}

/// Parts that are new in a first start, and go on in a program that takes over.
pub(super) struct OwnParts {
    pub listeners: Vec<Listener>,
    pub hub: Hub<ClientSocket>,
    pub authorizer: Option<Authorizer>,
    pub broker: Broker,
    pub events: Option<EventSender>,
    pub manager: Manager,
    /// The program that a handover starts.
    pub program: io::Result<Program>,
    pub node: u64,
    /// When the clock began.
    pub started: Instant,
}

/// File descriptors that are kept for other things than listeners, workers and clients.
fn reserved_fds(config: &Config) -> usize {
    let events = config.events.url.as_ref().map_or(0, |_| EVENTS_FDS);
    RESERVED_FDS + broker_fds(config) + events
}

/// Raises the soft limit on file descriptors to the hard one (docs/limits.md#connections). Returns the limit that holds.
fn raise_fd_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    limit.unwrap_or(u64::MAX)
}

/// How many connections the limit on file descriptors allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Sockets of clients.
    pub sockets: usize,
    /// Sockets of clients that may be WebSockets.
    pub websockets: usize,
}

impl Capacity {
    /// Divides `fds` file descriptors, of which `reserved` are for other things, but at most half.
    pub fn of(fds: usize, reserved: usize) -> Capacity {
        let sockets = fds.saturating_sub(reserved).max(fds / 2);
        let websockets = sockets
            .saturating_sub(RESERVED_REQUESTS)
            .max(sockets - sockets / 4);
        Capacity {
            sockets,
            websockets,
        }
    }
}

/// `--max-connections`, or less if there are not enough file descriptors.
fn max_connections(config: &Config, capacity: &Capacity, log: &Log) -> usize {
    let allowed = capacity.websockets;
    let wanted = config.max_connections.unwrap_or(allowed);
    if wanted > allowed {
        log.warn(
            "--max-connections is lowered to what the limit on file descriptors allows: raise that limit (ulimit -n)",
            &[
                ("max_connections", Value::Number(wanted as u64)),
                ("allowed", Value::Number(allowed as u64)),
            ],
        );
    }
    wanted.min(allowed)
}

pub(super) fn settings(
    config: &Config,
    max_connections: usize,
    workers: usize,
    random: u64,
) -> Settings {
    let failure = FailurePolicy {
        failure: config.authorizer_failure,
        hold: millis(config.authorizer_hold),
        workers,
        batch: config.authorizer_batch,
        queue: config.authorizer_queue,
        authorizer_timeout: millis(config.authorizer_timeout),
    };
    Settings {
        limits: Limits {
            handshake_timeout: millis(config.handshake_timeout),
            ping_interval: config.ping_interval.map_or(0, millis),
            max_message: config.max_message_size,
            max_queue: config.max_queue_size,
        },
        max_connections,
        max_connections_per_ip: config.max_connections_per_ip,
        max_total_queue: config.max_total_queue_size,
        max_channels: config.max_channels,
        max_message_rate: config.max_message_rate,
        compression: config.compression.then_some(config.compression_min_size),
        playground: config.playground,
        key: config.broadcasting_key.clone(),
        origins: config.allowed_origins.clone(),
        proxies: config.trusted_proxies.clone(),
        proxy_protocol: config.proxy_protocol,
        authorizer: config.authorizer_url.is_some(),
        authorizer_url: config
            .authorizer_url
            .as_ref()
            .map_or_else(String::new, |url| url.to_string()),
        failure,
        access_log: config.access_log,
        events: config.events.url.as_ref().map(|_| EventSettings {
            kinds: config.events.kinds,
            queue: config.events.queue,
        }),
        slots: 0,
        instance: random,
    }
}

fn register_signals(registry: &Registry) -> Result<Signals, Stop> {
    let failed = |e: io::Error| Stop::failed(format_args!("cannot receive signals: {e}"));
    let signals = Signals::open().map_err(failed)?;
    signals.register(registry, SIGNALS).map_err(failed)?;
    Ok(signals)
}

/// The authorizer, if there is one, and the number of its workers.
pub(super) fn start_authorizer(
    config: &Config,
    loop_parts: &LoopParts,
) -> Result<(Option<Authorizer>, usize), Stop> {
    let Some(settings) = config.authorizer(loop_parts.fds) else {
        return Ok((None, 0));
    };
    let workers = settings.workers;
    let authorizer = Authorizer::start(settings, Arc::clone(&loop_parts.waker))
        .map_err(|e| Stop::failed(format_args!("cannot start the authorizer's workers: {e}")))?;
    Ok((Some(authorizer), workers))
}

/// What sends events, if they have a receiver.
pub(super) fn start_events(
    config: &Config,
    node: u64,
    waker: &Arc<Waker>,
    log: &Log,
) -> Result<Option<EventSender>, Stop> {
    let Some(settings) = config.events_webhook() else {
        return Ok(None);
    };
    EventSender::start(settings, node, Arc::clone(waker), log.clone())
        .map(Some)
        .map_err(|e| Stop::failed(format_args!("cannot start sending events: {e}")))
}

/// File descriptors that the broker needs.
fn broker_fds(config: &Config) -> usize {
    match &config.broker {
        BrokerChoice::Memory => 0,
        BrokerChoice::Redis(dsn) => match dsn.servers {
            RedisServers::Cluster(_) => CLUSTER_FDS,
            RedisServers::One(_) | RedisServers::Sentinel { .. } => BROKER_FDS,
        },
    }
}

pub(super) fn unusable(dsn: &RedisDsn, error: &io::Error) -> Stop {
    Stop::failed(format_args!("--broker-dsn {dsn} cannot be used: {error}"))
}

/// The settings of redis, if it is the broker.
pub(super) fn redis_settings(config: &Config, seed: u64) -> Result<Option<RedisSettings>, Stop> {
    let BrokerChoice::Redis(dsn) = &config.broker else {
        return Ok(None);
    };
    let tls = if dsn.tls {
        let shared = tls::client_config(config.cert_file.as_deref(), "redis");
        Some(Arc::new(shared.map_err(|e| unusable(dsn, &e))?))
    } else {
        None
    };
    Ok(Some(RedisSettings {
        dsn: dsn.clone(),
        prefix: config.broker_prefix.clone(),
        largest_content: config.max_message_size,
        tls,
        first_token: FIRST_LINK,
        seed,
        probe: config.check,
    }))
}

/// The service manager, if there is one. The server starts without it if it cannot be reached.
pub(super) fn find_manager(config: &Config, log: &Log) -> Manager {
    let Some(address) = &config.notify_socket else {
        return Manager::default();
    };
    Manager::new(address, config.watchdog).unwrap_or_else(|e| {
        log.warn(
            "cannot notify the service manager: NOTIFY_SOCKET cannot be used",
            &[("error", Value::Shown(&e))],
        );
        Manager::default()
    })
}

/// Notifies the service manager that the server serves. Without it, the server goes on.
pub(super) fn notify_ready(manager: &mut Manager, connections: usize, log: &Log) {
    if let Err(e) = manager.ready(connections) {
        log.warn(
            "cannot notify the service manager that the server is ready",
            &[("error", Value::Shown(&e))],
        );
    }
}

/// Lets the hub talk to other nodes, except in a check.
pub fn meet_nodes(config: &Config, hub: &mut Hub<ClientSocket>) {
    if config.broker != BrokerChoice::Memory && !config.check {
        let key = config.broadcasting_key.as_ref().map(Secret::expose);
        hub.meet_nodes(NodeSeal::new(key, &config.broker_prefix));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_descriptors_are_split_between_websockets_other_connections_and_the_rest() {
        for (fds, reserved, sockets, websockets) in [
            // With many, the reserves are fixed.
            (20_000, 100, 19_900, 19_772),
            (1_024, 24, 1_000, 872),
            // With few, a quarter of the sockets are kept for requests.
            (100, 20, 80, 60),
            // At least half are for connections, however many are reserved.
            (64, 60, 32, 24),
            (64, 600, 32, 24),
            (0, 16, 0, 0),
        ] {
            let capacity = Capacity {
                sockets,
                websockets,
            };
            assert_eq!(Capacity::of(fds, reserved), capacity, "{fds} - {reserved}");
        }
    }
}
