//! The start: builds the server's parts from the configuration, and logs what was built.
//!
//! Owns: the order of the start, the first log lines. Knows: the configuration and how each part is opened. Never knows:
//! what happens once the loop turns.
//!
//! `take_over.rs` begins with what another program has left, and `trial.rs` tries whether that would work.
//!
//! Decision: the authorizer's threads start before the first listener opens. They have their own table of file
//! descriptors (fd_table.rs). A copy of a listener in it would keep the socket open after the loop has closed it.

mod parts;
mod take_over;
mod trial;

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use mio::{Registry, Waker};

use self::parts::{
    LoopParts, OwnParts, find_manager, meet_nodes, notify_ready, redis_settings, start_authorizer,
    start_events, unusable,
};
pub use self::take_over::{PendingServer, Restored, take_over};
pub use self::trial::{check, probe};
use crate::acceptor;
use crate::broker::Broker;
use crate::broker::redis::Redis;
use crate::clock::Clock;
use crate::config::{BrokerChoice, Config, Listen, RedisServers, Stop};
use crate::handover::Program;
use crate::hub::Hub;
use crate::listener::{self, ClientSocket, Listener};
use crate::log::{Log, Value};
use crate::metrics::Metrics;
use crate::quickstart;
use crate::random;
use crate::server::Server;
use crate::wire::forwarded::Proxies;

/// Builds the server: opens its listeners, starts its threads, logs what it does.
///
/// # Errors
/// [`Stop`] with status 1, naming the part that failed and why.
pub fn build(config: Config, log: Log) -> Result<Server, Stop> {
    // Before it listens: from then on its file may be replaced.
    let program = Program::running(None);
    let loop_parts = LoopParts::open()?;
    let node = random::seed()
        .map_err(|e| Stop::failed(format_args!("cannot read random numbers: {e}")))?;
    let (authorizer, workers) = start_authorizer(&config, &loop_parts)?;
    let events = start_events(&config, node, &loop_parts.waker, &log)?;
    let listeners = open_listeners(&config, loop_parts.poll.registry())?;

    let (capacity, settings) = loop_parts.divide(&config, (listeners.len(), workers), node, &log);
    let metrics = Metrics::new(SystemTime::now());
    let mut hub = Hub::new(settings, Clock::default(), metrics, log.clone());
    let broker = start_broker(&config, &mut hub, &loop_parts.waker, node, &log)?;
    let mut manager = find_manager(&config, &log);

    let addresses: Vec<String> = listeners.iter().map(|l| l.address.clone()).collect();
    announce(&config, &addresses, &log);
    notify_ready(&mut manager, 0, &log);
    let own = OwnParts {
        listeners,
        hub,
        authorizer,
        broker,
        events,
        manager,
        program,
        node,
        started: Instant::now(),
    };
    Ok(loop_parts.server(&config, capacity, log, own))
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

/// The broker, of which the hub is notified if it is shared.
fn start_broker(
    config: &Config,
    hub: &mut Hub<ClientSocket>,
    waker: &Arc<Waker>,
    seed: u64,
    log: &Log,
) -> Result<Broker, Stop> {
    let (BrokerChoice::Redis(dsn), Some(settings)) =
        (&config.broker, redis_settings(config, seed)?)
    else {
        return Ok(Broker::Memory);
    };
    hub.share(match dsn.servers {
        RedisServers::Cluster(_) => Some(config.broker_prefix.clone()),
        RedisServers::One(_) | RedisServers::Sentinel { .. } => None,
    });
    meet_nodes(config, hub);
    if !dsn.unused.is_empty() {
        let unused = "parts of --broker-dsn have no effect";
        let names = dsn.unused.join(", ");
        log.warn(unused, &[("parts", Value::Text(&names))]);
    }
    let redis = Redis::new(settings, Arc::clone(waker), log.clone(), 0);
    let redis = redis.map_err(|e| unusable(dsn, &e))?;
    Ok(Broker::Redis(Box::new(redis)))
}

/// Logs where the server listens, and warns about what is open to all clients (docs/operating.md#listening).
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
            let forged = "there is no key: every program that can publish at redis can do what a backend can; \
                          set the same --broadcasting-key on all nodes";
            log.warn(forged, &[("broker", Value::Shown(&config.broker))]);
        }
    }
    if let Some(first) = addresses.first() {
        log.print(&quickstart::text(first, has_key, authorizer.is_some()));
    }
}
