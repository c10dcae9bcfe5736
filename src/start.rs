//! The start: builds the server's parts from the configuration, and logs what was built.
//!
//! Owns: the order of the start, the split of the file descriptors, the first log lines. Knows: the configuration and how
//! each part is opened. Never knows: what happens once the loop turns.
//!
//! Decision: the authorizer's threads start before the first listener opens. They have their own table of file
//! descriptors (fd_table.rs). A copy of a listener in it would keep the socket open after the loop has closed it.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use mio::{Interest, Poll, Registry, Waker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook_mio::v1_0::Signals;

use crate::acceptor::{self, Acceptor};
use crate::authorizer::Authorizer;
use crate::broker::Broker;
use crate::broker::redis::{Redis, RedisSettings};
use crate::clock::{Clock, millis};
use crate::config::{BrokerChoice, Config, Listen, RedisDsn, RedisServers, Stop};
use crate::connection::Limits;
use crate::events::EventSender;
use crate::hub::{EventSettings, FailurePolicy, Hub, Settings};
use crate::listener::{self, ClientSocket, Listener};
use crate::log::{Log, Value};
use crate::metrics::Metrics;
use crate::quickstart;
use crate::random;
use crate::secret::Secret;
use crate::server::{FIRST_LINK, Parts, SIGNALS, Server, WAKER};
use crate::systemd::Manager;
use crate::tls;
use crate::wire::forwarded::Proxies;
use crate::wire::node_message::envelope::NodeSeal;

/// File descriptors kept for the log, the poll, signals and the like.
const RESERVED_FDS: usize = 16;
/// File descriptors kept for redis: two links, some sentinels, and lookups of their names.
const BROKER_FDS: usize = 16;
/// The same for a cluster, of as many masters as most have.
const CLUSTER_FDS: usize = 256;
/// File descriptors kept for the receiver of events: a connection, and a lookup of its name.
const EVENTS_FDS: usize = 4;
/// Sockets that never are WebSockets, so that probes and backends are served when all WebSockets are taken. With few
/// file descriptors, a quarter of the sockets.
const RESERVED_REQUESTS: usize = 128;

/// Build the server: open its listeners, start its threads, log what it does.
///
/// # Errors
/// [`Stop`] with status 1, naming the part that failed and why.
pub fn build(config: Config, log: Log) -> Result<Server, Stop> {
    let fds = usize::try_from(raise_fd_limit()).unwrap_or(usize::MAX);
    let poll =
        Poll::new().map_err(|e| Stop::failed(format_args!("cannot create the poll: {e}")))?;
    let signals = register_signals(poll.registry())?;
    let waker = Waker::new(poll.registry(), WAKER)
        .map_err(|e| Stop::failed(format_args!("cannot create the poll's waker: {e}")))?;
    let waker = Arc::new(waker);
    let random = random::seed()
        .map_err(|e| Stop::failed(format_args!("cannot read random numbers: {e}")))?;
    let (authorizer, workers) = start_authorizer(&config, fds, &waker)?;
    let events = start_events(&config, random, &waker, &log)?;
    let listeners = open_listeners(&config, poll.registry())?;

    // Where threads cannot have a descriptor table of their own, their descriptors are in this one.
    let capacity = Capacity::of(fds, reserved_fds(&config) + listeners.len() + workers);
    let max_connections = max_connections(&config, &capacity, &log);
    let settings = settings(&config, max_connections, workers, random);
    let metrics = Metrics::new(SystemTime::now());
    let mut hub = Hub::new(settings, Clock::default(), metrics, log.clone());
    let broker = start_broker(&config, &mut hub, waker, random, &log)?;
    let manager = find_manager(&config, &log);

    let addresses: Vec<String> = listeners.iter().map(|l| l.address.clone()).collect();
    announce(&config, &addresses, &log);
    if let Err(e) = manager.ready() {
        log.warn(
            "cannot notify the service manager that the server is ready",
            &[("error", Value::Shown(&e))],
        );
    }
    let (max_sockets, reserved) = (capacity.sockets, capacity.sockets - capacity.websockets);
    Ok(Server::new(Parts {
        poll,
        signals,
        acceptor: Acceptor::new(listeners, max_sockets, reserved, log.clone()),
        hub,
        authorizer,
        broker,
        events,
        manager,
        log,
        drain_time: millis(config.drain_timeout),
    }))
}

/// File descriptors that are kept for other things than listeners, workers and clients.
fn reserved_fds(config: &Config) -> usize {
    let events = config.events.url.as_ref().map_or(0, |_| EVENTS_FDS);
    RESERVED_FDS + broker_fds(config) + events
}

/// Raise the soft limit on file descriptors to the hard one (docs/limits.md#connections). Returns the limit that holds.
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
struct Capacity {
    /// Of any kind.
    sockets: usize,
    /// Of these, how many may be WebSockets.
    websockets: usize,
}

impl Capacity {
    /// Of `fds` file descriptors, `reserved` are for other things, but at most half.
    fn of(fds: usize, reserved: usize) -> Capacity {
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

fn settings(config: &Config, max_connections: usize, workers: usize, random: u64) -> Settings {
    let failure = FailurePolicy {
        failure: config.authorizer_failure,
        hold: millis(config.authorizer_hold),
        workers,
        batch: config.authorizer_batch,
        queue: config.authorizer_queue,
        patience: millis(config.authorizer_timeout),
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
        failure,
        access_log: config.access_log,
        events: config.events.url.as_ref().map(|_| EventSettings {
            kinds: config.events.kinds,
            queue: config.events.queue,
        }),
        instance: random,
    }
}

fn register_signals(registry: &Registry) -> Result<Signals, Stop> {
    const INT: i32 = 2;
    const TERM: i32 = 15;
    let failed = |e: io::Error| Stop::failed(format_args!("cannot register signal handlers: {e}"));
    let mut signals = Signals::new([TERM, INT]).map_err(failed)?;
    registry
        .register(&mut signals, SIGNALS, Interest::READABLE)
        .map_err(failed)?;
    Ok(signals)
}

/// The authorizer, if there is one, and the number of its workers.
fn start_authorizer(
    config: &Config,
    fds: usize,
    waker: &Arc<Waker>,
) -> Result<(Option<Authorizer>, usize), Stop> {
    let Some(settings) = config.authorizer(fds) else {
        return Ok((None, 0));
    };
    let workers = settings.workers;
    let authorizer = Authorizer::start(settings, Arc::clone(waker))
        .map_err(|e| Stop::failed(format_args!("cannot start the authorizer's workers: {e}")))?;
    Ok((Some(authorizer), workers))
}

/// What sends events, if they have a receiver.
fn start_events(
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

fn open_listeners(config: &Config, registry: &Registry) -> Result<Vec<Listener>, Stop> {
    let mut listeners = Vec::new();
    if config.listen_fds > 0 {
        let failed = |e| {
            Stop::failed(format_args!(
                "cannot use a socket of the service manager: {e}"
            ))
        };
        listeners = listener::inherit(config.listen_fds).map_err(failed)?;
    } else {
        for listen in &config.listen_addr {
            let failed = |e: io::Error| {
                let hint = match (e.kind(), config.reuse_port, listen) {
                    (io::ErrorKind::AddrInUse, true, Listen::Unix(_)) => {
                        "; --reuse-port shares TCP ports only: give each process its own path"
                    }
                    (io::ErrorKind::AddrInUse, true, _) => {
                        "; the process that listens there runs without --reuse-port, or as another user"
                    }
                    _ => "",
                };
                Stop::failed(format_args!("cannot listen on {listen}: {e}{hint}"))
            };
            listeners.extend(listener::open(listen, config.reuse_port).map_err(failed)?);
        }
    }
    for (nth, listener) in listeners.iter().enumerate() {
        listener
            .register(registry, acceptor::listener_token(nth))
            .map_err(|e| {
                Stop::failed(format_args!("cannot listen on {}: {e}", listener.address))
            })?;
    }
    Ok(listeners)
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

/// The broker, of which the hub is notified if it is shared.
fn start_broker(
    config: &Config,
    hub: &mut Hub<ClientSocket>,
    waker: Arc<Waker>,
    seed: u64,
    log: &Log,
) -> Result<Broker, Stop> {
    let BrokerChoice::Redis(dsn) = &config.broker else {
        return Ok(Broker::Memory);
    };
    hub.share(match dsn.servers {
        RedisServers::Cluster(_) => Some(config.broker_prefix.clone()),
        RedisServers::One(_) | RedisServers::Sentinel { .. } => None,
    });
    // A check does not count as a node.
    if !config.check {
        let key = config.broadcasting_key.as_ref().map(Secret::expose);
        hub.meet_nodes(NodeSeal::new(key, &config.broker_prefix));
    }
    let redis = start_redis(dsn, config, waker, seed, log)?;
    Ok(Broker::Redis(Box::new(redis)))
}

fn start_redis(
    dsn: &RedisDsn,
    config: &Config,
    waker: Arc<Waker>,
    seed: u64,
    log: &Log,
) -> Result<Redis, Stop> {
    let failed =
        |e: io::Error| Stop::failed(format_args!("--broker-dsn {dsn} cannot be used: {e}"));
    if !dsn.unused.is_empty() {
        let unused = "parts of --broker-dsn have no effect";
        let names = dsn.unused.join(", ");
        log.warn(unused, &[("parts", Value::Text(&names))]);
    }
    let tls = match dsn.tls {
        true => {
            let shared = tls::client_config(config.cert_file.as_deref(), "redis");
            Some(Arc::new(shared.map_err(failed)?))
        }
        false => None,
    };
    let settings = RedisSettings {
        dsn: dsn.clone(),
        prefix: config.broker_prefix.clone(),
        tls,
        first_token: FIRST_LINK,
        seed,
        probe: config.check,
    };
    Redis::new(settings, waker, log.clone(), 0).map_err(failed)
}

/// The service manager, if there is one. The server starts without it if it cannot be reached.
fn find_manager(config: &Config, log: &Log) -> Manager {
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

/// Log where the server listens, and warn about what is open to all clients (docs/operating.md#listening).
fn announce(config: &Config, addresses: &[String], log: &Log) {
    let authorizer = config.authorizer_url.as_ref().map(|url| url.to_string());
    let has_key = config.broadcasting_key.is_some();
    let events = config.events.url.as_ref().map(|url| url.to_string());
    let listening = addresses.join(", ");
    let mut fields = vec![
        ("version", Value::Text(env!("CARGO_PKG_VERSION"))),
        ("addresses", Value::Text(&listening)),
        ("broker", Value::Shown(&config.broker)),
        (
            "authorizer",
            Value::Text(authorizer.as_deref().unwrap_or("none")),
        ),
    ];
    if let Some(url) = &events {
        fields.push(("events", Value::Text(url)));
    }
    log.info("listening", &fields);
    if config.listen_fds > 0 {
        let ignored = "the service manager has opened the sockets: --listen-addr has no effect";
        log.info(ignored, &[]);
    }
    if config.proxy_protocol
        && config.trusted_proxies == Proxies::default()
        && !addresses.iter().any(|it| it.starts_with("unix:"))
    {
        let idle = "--proxy-protocol has no effect: no proxy is trusted; set --trusted-proxies";
        log.warn(idle, &[]);
    }
    if authorizer.is_none() {
        log.warn("there is no authorizer: every client may connect, join, leave and broadcast; set --authorizer-url", &[]);
    }
    if !has_key {
        let open = "there is no key: /broadcast and the other backend endpoints answer programs on this machine only; \
                    set --broadcasting-key to open them to others";
        log.warn(open, &[]);
        if config.broker != BrokerChoice::Memory {
            log.warn("without a key programs that can publish at redis can do what a backend can; set --broadcasting-key", &[]);
        }
    }
    if let Some(first) = addresses.first() {
        log.print(&quickstart::text(first, has_key, authorizer.is_some()));
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
