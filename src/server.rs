//! The loop: poll, accept, signals, and the tick. Hands what the hub asks for to the authorizer and the broker, and what
//! comes back to the hub.
//!
//! Owns: the poll, the listeners, the receive buffer, the clock. Knows: readiness. Never knows: a rule about a client.
//!
//! Decision: whoever accepts leaves `--max-connections` to the hub, which answers `503`, and only keeps the process from
//! running out of file descriptors: at that limit new connections wait in the kernel's queue while the hub ends some that
//! have no request, over answering `503` from one descriptor in reserve: who waits may be a probe of `/health`, and
//! who sits there may be silent.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook_mio::v1_0::Signals;

use crate::authorizer::Authorizer;
use crate::broker::redis::{self, Duty, Redis};
use crate::broker::{Broker, News};
use crate::clock::{Clock, Millis};
use crate::config::{self, Config, Listen, RedisAddress, RedisDsn, Stop};
use crate::connection::{Limits, Peer};
use crate::effect::{Answer, ConnId, Effect, Question, Verdict};
use crate::heap::Heap;
use crate::hub::{Hub, Settings};
use crate::listener::{self, Listener, Socket};
use crate::log::{Condition, Log, Seldom, Value};
use crate::metrics::Metrics;
use crate::quickstart;
use crate::random;
use crate::systemd::Manager;
use crate::tls;
use crate::wire::forwarded::Proxies;

/// Bytes read at once; every connection's reads go through the one buffer of this size.
const BUFFER: usize = 64 * 1024;
/// Events taken from the poll at once: each is at most one read and a bounded number of requests.
const EVENTS: usize = 256;
/// Connections accepted from one listener between two polls.
const ACCEPTS: usize = 16;
/// File descriptors kept for the listeners, the log, the poll and the like.
const RESERVED_FDS: usize = 16;
/// And for redis: two links, and what the lookup of its name takes.
const BROKER_FDS: usize = 8;
/// Connections that are no WebSockets for which there is room when all those are taken: probes, backends. Where there
/// are few file descriptors, a quarter of them.
const RESERVED_REQUESTS: usize = 128;
/// How long accepting rests when the system is out of something, or nobody has a place to give, unless a connection ends
/// before.
const ACCEPT_REST: Millis = 100;
/// For how long the log has the authorizer down at least, so that one which flickers does not flood it; and the pause
/// between two lines about connections that cannot be served.
const STEADY: Millis = 5_000;
/// How long the last log lines are waited for.
const LOG_PATIENCE: Duration = Duration::from_millis(500);

const LISTENERS: usize = usize::MAX - 1024;
const SIGNALS: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);
const PUBLISHES: Token = Token(usize::MAX - 3);
const LISTENS: Token = Token(usize::MAX - 4);

/// The server, listening.
pub struct Server {
    poll: Poll,
    listeners: Vec<Listener>,
    signals: Signals,
    hub: Hub<Socket>,
    authorizer: Option<Authorizer>,
    broker: Broker,
    /// The authorizer is down.
    authorizer_down: Condition,
    manager: Manager,
    heap: Heap,
    log: Log,
    started: Instant,
    /// On the clock that began with `started`: when the last turn ended.
    turn_ended: Duration,
    /// When `Clock::date` has to be written anew.
    date_until: Millis,
    /// Connections of any kind that there are file descriptors for.
    max_sockets: usize,
    /// Of these, how many are no WebSockets at least.
    guests: usize,
    /// Until when accepting rests.
    accept_after: Millis,
    /// Lines about connections that cannot be accepted or served.
    unserved: Seldom,
    drain_time: Millis,
    /// When a graceful stop is over, whoever is left.
    stop_at: Option<Millis>,
}

/// What the loop goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    On,
    /// Out at once, with this status.
    Out(u8),
}

impl Server {
    /// Opens the listeners and makes everything ready.
    ///
    /// # Errors
    /// [`Stop`] with status 1, saying what could not be had.
    pub fn start(config: Config, log: Log) -> Result<Server, Stop> {
        let fds = usize::try_from(raise_fd_limit()).unwrap_or(usize::MAX);
        let poll =
            Poll::new().map_err(|e| Stop::failed(format_args!("no poll can be had: {e}")))?;
        let mut signals = Signals::new([signal::TERM, signal::INT])
            .map_err(|e| Stop::failed(format_args!("signals cannot be heard: {e}")))?;
        let registered = poll
            .registry()
            .register(&mut signals, SIGNALS, Interest::READABLE);
        registered.map_err(|e| Stop::failed(format_args!("signals cannot be heard: {e}")))?;

        let waker = Waker::new(poll.registry(), WAKER)
            .map_err(|e| Stop::failed(format_args!("the poll cannot be woken: {e}")))?;
        let waker = Arc::new(waker);
        let asks = config.authorizer(fds);
        let workers = asks.as_ref().map_or(0, |settings| settings.workers);
        let authorizer = match asks {
            None => None,
            Some(settings) => {
                let failed = |e: io::Error| {
                    Stop::failed(format_args!("the authorizer's workers cannot start: {e}"))
                };
                Some(Authorizer::start(settings, Arc::clone(&waker)).map_err(failed)?)
            }
        };

        let listeners = open_listeners(&config, poll.registry())?;
        // Where threads cannot have a table of their own, as in a container whose system calls are filtered, the workers'
        // descriptors are among ours.
        let reserved = RESERVED_FDS
            + listeners.len()
            + workers
            + usize::from(config.broker != config::Broker::Memory) * BROKER_FDS;
        let max_sockets = fds.saturating_sub(reserved).max(fds / 2);
        let room = max_sockets
            .saturating_sub(RESERVED_REQUESTS)
            .max(max_sockets - max_sockets / 4);
        let wanted = config.max_connections.unwrap_or(room);
        if wanted > room {
            log.warn(
                "--max-connections is more than the limit on file descriptors allows, which is what counts: raise it (ulimit -n)",
                &[("max_connections", Value::Number(wanted as u64)), ("room", Value::Number(room as u64))],
            );
        }
        let max_connections = wanted.min(room);
        let random = random::seed()
            .map_err(|e| Stop::failed(format_args!("no random number can be had: {e}")))?;
        let settings = Settings {
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
            playground: config.playground,
            key: config.broadcasting_key.clone(),
            origins: config.allowed_origins.clone(),
            proxies: config.trusted_proxies.clone(),
            proxy_protocol: config.proxy_protocol,
            authorizer: authorizer.is_some(),
            access_log: config.access_log,
            instance: random,
        };
        let metrics = Metrics::new(SystemTime::now());
        let mut hub = Hub::new(settings, Clock::default(), metrics, log.clone());
        let broker = match &config.broker {
            config::Broker::Memory => Broker::Memory,
            config::Broker::Redis(dsn) => {
                hub.share();
                let redis = start_redis(dsn, &config, waker, random, &log)?;
                Broker::Redis(Box::new(redis))
            }
        };
        let manager = find_manager(&config, &log);
        let mut server = Server {
            poll,
            listeners,
            signals,
            hub,
            broker,
            authorizer,
            authorizer_down: Condition::lasting(STEADY),
            manager,
            heap: Heap::default(),
            log,
            started: Instant::now(),
            turn_ended: Duration::ZERO,
            date_until: 0,
            max_sockets,
            guests: max_sockets - room,
            accept_after: 0,
            unserved: Seldom::once_in(STEADY),
            drain_time: millis(config.drain_timeout),
            stop_at: None,
        };
        server.tell_time();
        server.announce(&config);
        if let Err(e) = server.manager.ready() {
            server.log.warn(
                "the service manager does not take the word that the server is ready",
                &[("error", Value::Shown(&e))],
            );
        }
        Ok(server)
    }

    /// Serves until it is told to stop. Returns the exit status.
    ///
    /// # Errors
    /// [`Stop`] with status 1 when the poll fails, which it should not.
    pub fn run(mut self) -> Result<u8, Stop> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        let mut answers = Vec::new();
        let status = loop {
            self.wait(&mut events, self.timeout())?;
            if let Course::Out(status) = self.tick(&events, &mut buffer, &mut answers) {
                break status;
            }
            self.turn_ended = self.started.elapsed();
            self.hub.turn_over(self.turn_ended);
            let (now, there) = (self.hub.clock.now, self.hub.connections());
            self.manager.turn(now, there);
            self.heap.turn(now, !events.is_empty());
        };
        self.log.flush(LOG_PATIENCE);
        Ok(status)
    }

    /// Turns the loop until the broker has let us in, or `patience` is over.
    ///
    /// # Errors
    /// Why it did not.
    pub fn try_broker(mut self, patience: Duration) -> Result<(), String> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        while !self.hub.is_broker_up() {
            if !self.broker.trouble().is_empty() {
                return Err(self.broker.trouble().to_owned());
            }
            let left = patience.saturating_sub(self.started.elapsed());
            if left.is_zero() {
                let patience = humantime::format_duration(patience);
                return Err(format!("it has not answered within {patience}"));
            }
            let timeout = self.timeout().map_or(left, |timeout| timeout.min(left));
            self.wait(&mut events, Some(timeout))
                .map_err(|stop| stop.text)?;
            self.tick(&events, &mut buffer, &mut Vec::new());
        }
        Ok(())
    }

    /// Sleeps until something happens, and tells what time it is then.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<(), Stop> {
        match self.poll.poll(events, timeout) {
            // What a signal interrupts may still have said something, which the next poll says again.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => events.clear(),
            other => other.map_err(|e| Stop::failed(format_args!("the poll failed: {e}")))?,
        }
        self.tell_time();
        Ok(())
    }

    /// One turn of the loop: arrivals, work left over, questions, deadlines, fan-out, flush, the end of those that are
    /// over.
    fn tick(&mut self, events: &Events, buffer: &mut [u8], answers: &mut Vec<Answer>) -> Course {
        for event in events {
            match event.token() {
                SIGNALS => {
                    if let Course::Out(status) = self.signalled() {
                        return Course::Out(status);
                    }
                }
                WAKER => {}
                PUBLISHES => self.broker.ready(Duty::Publish, event),
                LISTENS => self.broker.ready(Duty::Listen, event),
                Token(token) if token >= LISTENERS => {
                    if let Some(listener) = self.listeners.get_mut(token - LISTENERS) {
                        listener.pending = true;
                    }
                }
                token => self.ready(token, event, buffer),
            }
        }
        self.accept();
        self.take_answers(answers);
        self.take_news(buffer);
        self.hub.turns(buffer);
        self.take_effects();
        self.hub.expire();
        self.hub.fan_out();
        self.make_room(buffer);
        self.hub.flush();
        let before = self.hub.connections();
        self.hub.reap();
        if self.hub.connections() < before {
            self.accept_after = 0;
        }
        match self.stop_at {
            Some(at) if self.hub.is_drained() || self.hub.clock.now >= at => {
                self.log.info(
                    "stopped",
                    &[(
                        "connections_left",
                        Value::Number(self.hub.connections() as u64),
                    )],
                );
                Course::Out(0)
            }
            _ => Course::On,
        }
    }

    #[inline(always)]
    fn ready(&mut self, token: Token, event: &Event, buffer: &mut [u8]) {
        let reset = event.is_error();
        let closed = event.is_read_closed() || reset;
        self.hub.ready(
            id(token),
            event.is_readable() || closed,
            closed,
            reset,
            event.is_writable(),
            buffer,
        );
    }

    /// How long the poll may sleep.
    fn timeout(&self) -> Option<Duration> {
        let now = self.hub.clock.now;
        let waiting = self.listeners.iter().any(|l| l.pending);
        if self.hub.has_work() || self.broker.has_work() || waiting && self.accept_after <= now {
            return Some(Duration::ZERO);
        }
        let rest = waiting.then_some(self.accept_after);
        let question = self.authorizer.as_ref().and_then(Authorizer::due);
        let question = question.map(|due| millis(due.saturating_duration_since(self.started)));
        let next = [
            self.hub.next_deadline(),
            self.broker.next_deadline(),
            question,
            self.manager.next_deadline(),
            self.heap.next_deadline(),
            rest,
            self.stop_at,
        ]
        .into_iter()
        .flatten()
        .min()?;
        // The clock counts whole milliseconds that have passed, so one more makes sure that it has.
        let passed = millis(self.turn_ended);
        Some(Duration::from_millis(next.saturating_sub(passed)))
    }

    fn tell_time(&mut self) {
        let elapsed = self.started.elapsed();
        let now = millis(elapsed);
        self.hub.clock.now = now;
        self.hub.clock.micros = elapsed.as_micros() as u64;
        if now >= self.date_until {
            let wall = SystemTime::now().max(SystemTime::UNIX_EPOCH);
            let part = wall
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| d.subsec_millis());
            self.date_until = now + 1000 - Millis::from(part);
            let unix = wall
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, millis);
            self.hub.clock.unix = unix.saturating_sub(now);
            self.hub.clock.date = httpdate::fmt_http_date(wall);
        }
    }

    /// Takes in a bounded number of those who wait at each listener.
    fn accept(&mut self) {
        if self.accept_after > self.hub.clock.now {
            return;
        }
        for at in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                if !self.listeners[at].pending || self.hub.connections() >= self.max_sockets {
                    break;
                }
                match self.listeners[at].accept() {
                    Ok((socket, peer)) => self.admit(socket, peer),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        self.listeners[at].pending = false
                    }
                    Err(e) if listener::is_of_one_connection(&e) => {}
                    Err(e) => {
                        self.accept_after = self.hub.clock.now + ACCEPT_REST;
                        self.unserved("connections cannot be accepted for now", &e);
                        return;
                    }
                }
            }
        }
    }

    fn admit(&mut self, socket: Socket, peer: Peer) {
        let taken = self.hub.accept(socket, peer).and_then(|id| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let Some(socket) = self.hub.stream(id) else {
                return Ok(());
            };
            let registered = socket.register(self.poll.registry(), token(id), interest);
            registered.inspect_err(|_| self.hub.fail(id))
        });
        if let Err(e) = taken {
            self.unserved("a connection cannot be served", &e);
        }
    }

    /// Somebody waits at the door, and all file descriptors are taken: the hub gives places away, in one turn no more
    /// than a quarter of those that are always there, so that a newcomer has some turns for its request.
    fn make_room(&mut self, buffer: &mut [u8]) {
        let now = self.hub.clock.now;
        let full = self.hub.connections() >= self.max_sockets;
        if !full || self.accept_after > now || !self.listeners.iter().any(|l| l.pending) {
            return;
        }
        if !self
            .hub
            .make_room((self.guests / 4).clamp(1, ACCEPTS), buffer)
        {
            self.accept_after = now + ACCEPT_REST;
        }
        let full = "the limit on file descriptors is reached: connections without a request are ended to make room for others; raise it (ulimit -n)";
        let open = format!("{} connections are open", self.hub.connections());
        self.unserved(full, &open);
    }

    fn unserved(&mut self, message: &str, reason: &dyn Display) {
        if self.unserved.admit(self.hub.clock.now).is_some() {
            self.log.warn(message, &[("reason", Value::Shown(reason))]);
        }
    }

    /// Turns the broker, and tells the hub what has happened there.
    fn take_news(&mut self, buffer: &mut [u8]) {
        let now = self.hub.clock.now;
        self.broker.turn(self.poll.registry(), buffer, now);
        while let Some(news) = self.broker.next(now) {
            match news {
                News::Publishing(up) => self.hub.set_publishing(up),
                News::Listening(up) => self.hub.set_listening(up),
                News::Published(by, receipt) => self.hub.receipt(by, receipt),
                News::Subscribed(id, receipt) => self.hub.subscribed(id, receipt),
                News::Dropped(why) => self.hub.metrics.broker_messages.add(why),
                News::Message(message) => {
                    let (channel, content) = self.broker.content(&message);
                    if self.hub.arrived(channel, content) {
                        self.hub.metrics.broker_messages.add("delivered");
                        self.broker.take(&message);
                    } else {
                        self.broker.put_off();
                    }
                }
            }
        }
        if self.broker.judge(self.hub.is_broker_up(), now) {
            self.hub.outside.broker_reconnections += 1;
        }
    }

    /// Hands what the hub wants from outside to those who do it.
    fn take_effects(&mut self) {
        let now = self.hub.clock.now;
        while let Some(effect) = self.hub.effect() {
            match effect {
                Effect::Ask(question) => self.ask(question),
                Effect::Withdraw(id) => {
                    if let Some(authorizer) = &self.authorizer {
                        authorizer.withdraw(id);
                    }
                }
                Effect::Publish(publication) => self.broker.publish(&publication, now),
                Effect::Subscribe(subscription) => self.broker.subscribe(subscription, now),
                Effect::Unsubscribe(channel) => self.broker.unsubscribe(channel, now),
            }
        }
        self.broker.flush(now);
    }

    fn ask(&mut self, question: Question) {
        let Some(Err(question)) = self.authorizer.as_mut().map(|a| a.ask(question)) else {
            return;
        };
        let trouble = "more questions wait than --authorizer-queue allows".to_owned();
        self.answered(Answer::unavailable(question.from, trouble, Duration::ZERO));
    }

    fn take_answers(&mut self, answers: &mut Vec<Answer>) {
        let Some(authorizer) = &mut self.authorizer else {
            return;
        };
        let load = authorizer.answers(answers);
        self.hub.outside.questions_in_flight = load.in_flight as u64;
        self.hub.outside.questions_waiting = load.waiting as u64;
        for answer in answers.drain(..) {
            self.answered(answer);
        }
    }

    fn answered(&mut self, answer: Answer) {
        let down = answer.verdict == Verdict::Unavailable;
        let now = self.hub.clock.now;
        if down && self.authorizer_down.begin(now) {
            let trouble = answer.trouble.as_deref().unwrap_or("unknown");
            self.log.error(
                "the authorizer is down",
                &[("reason", Value::Text(trouble))],
            );
        } else if !down && self.authorizer_down.end(now) {
            self.log.info("the authorizer answers again", &[]);
        }
        self.hub.verdict(answer);
    }

    fn signalled(&mut self) -> Course {
        let signals: Vec<i32> = self.signals.pending().collect();
        for signal in signals {
            if self.stop_at.is_some() {
                self.log.warn(
                    "a second signal: out at once",
                    &[("signal", Value::Number(signal as u64))],
                );
                return Course::Out(128 + signal as u8);
            }
            let fields = [
                ("signal", Value::Number(signal as u64)),
                ("connections", Value::Number(self.hub.connections() as u64)),
                ("drain_ms", Value::Number(self.drain_time)),
            ];
            self.log.info(
                "stopping: clients are told to leave, one after the other",
                &fields,
            );
            self.stop_at = Some(self.hub.clock.now + self.drain_time);
            self.hub.drain(self.drain_time);
            self.manager.stopping(self.drain_time);
        }
        Course::On
    }

    /// The line at the start, and what an operator should know of who may do what.
    fn announce(&self, config: &Config) {
        let addresses: Vec<&str> = self.listeners.iter().map(|l| l.address.as_str()).collect();
        let authorizer = config.authorizer_url.as_ref().map(|url| url.to_string());
        let fields = [
            ("version", Value::Text(env!("CARGO_PKG_VERSION"))),
            ("addresses", Value::Text(&addresses.join(", "))),
            ("broker", Value::Shown(&config.broker)),
            (
                "authorizer",
                Value::Text(authorizer.as_deref().unwrap_or("none")),
            ),
        ];
        self.log.info("listening", &fields);
        if config.listen_fds > 0 {
            let passed = "its sockets are the service manager's: --listen-addr is not used";
            self.log.info(passed, &[]);
        }
        let unix = |listener: &Listener| listener.address.starts_with("unix:");
        if config.proxy_protocol
            && config.trusted_proxies == Proxies::default()
            && !self.listeners.iter().any(unix)
        {
            let idle = "--proxy-protocol has no effect: no proxy is trusted; set --trusted-proxies";
            self.log.warn(idle, &[]);
        }
        if authorizer.is_none() {
            self.log.warn("there is no authorizer: everyone may connect, join, leave and broadcast; set --authorizer-url", &[]);
        }
        if config.broadcasting_key.is_none() {
            let open = "there is no key: /broadcast, /metrics and /tap answer programs on this machine only; set --broadcasting-key \
                        to open them to others";
            self.log.warn(open, &[]);
        }
        if let Some(first) = addresses.first() {
            let text = quickstart::text(
                first,
                config.broadcasting_key.is_some(),
                authorizer.is_some(),
            );
            self.log.print(&text);
        }
    }
}

mod signal {
    pub const INT: i32 = 2;
    pub const TERM: i32 = 15;
}

/// Raises the soft limit on file descriptors to the hard one (CONTRACT §2). Returns what then holds.
fn raise_fd_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let holds = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    holds.unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

fn token(id: ConnId) -> Token {
    Token((id.generation as usize) << 32 | id.slot as usize)
}

fn id(token: Token) -> ConnId {
    ConnId {
        slot: token.0 as u32,
        generation: (token.0 >> 32) as u32,
    }
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
    let tls = match dsn.address {
        RedisAddress::Tcp { tls: true, .. } => {
            let shared = tls::client_config(config.cert_file.as_deref(), "redis");
            Some(Arc::new(shared.map_err(failed)?))
        }
        RedisAddress::Tcp { .. } | RedisAddress::Unix(_) => None,
    };
    let settings = redis::Settings {
        dsn: dsn.clone(),
        prefix: config.broker_prefix.clone(),
        tls,
        tokens: [PUBLISHES, LISTENS],
        seed,
    };
    Redis::new(settings, waker, log.clone(), 0).map_err(failed)
}

fn open_listeners(config: &Config, registry: &Registry) -> Result<Vec<Listener>, Stop> {
    let mut listeners = Vec::new();
    if config.listen_fds > 0 {
        let failed = |e| {
            Stop::failed(format_args!(
                "a socket of the service manager cannot be used: {e}"
            ))
        };
        listeners = listener::inherit(config.listen_fds).map_err(failed)?;
    } else {
        for listen in &config.listen_addr {
            let failed = |e: io::Error| {
                let hint = match (e.kind(), config.reuse_port, listen) {
                    (io::ErrorKind::AddrInUse, true, Listen::Unix(_)) => {
                        "; --reuse-port shares TCP ports only: give each process a path of its own"
                    }
                    (io::ErrorKind::AddrInUse, true, _) => {
                        "; who listens there has no --reuse-port, or is another user"
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
            .register(registry, Token(LISTENERS + nth))
            .map_err(|e| {
                Stop::failed(format_args!("cannot listen on {}: {e}", listener.address))
            })?;
    }
    Ok(listeners)
}

/// What a service manager wants to hear from us, if there is one. One that cannot be reached is no reason not to serve.
fn find_manager(config: &Config, log: &Log) -> Manager {
    let Some(address) = &config.notify_socket else {
        return Manager::default();
    };
    Manager::new(address, config.watchdog).unwrap_or_else(|e| {
        log.warn(
            "the service manager cannot be told how it goes: NOTIFY_SOCKET leads nowhere",
            &[("error", Value::Shown(&e))],
        );
        Manager::default()
    })
}
