//! The loop: waits for the poll, and turns the hub, the acceptor, the authorizer and the broker in a fixed order.
//!
//! Owns: the poll, the signals, the receive buffer, the clock. Knows: readiness, and what passes between the hub and its
//! drivers. Never knows: a rule about a client, or how a part is built.

mod drivers;
mod replace;
mod resume;
mod saved;
mod stop;

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::acceptor::{self, Acceptor};
use crate::authorizer::Authorizer;
use crate::broker::Broker;
use crate::broker::redis::MOST_LINKS;
use crate::clock::{Millis, micros, millis};
use crate::config::Stop;
use crate::connection::Readiness;
use crate::effect::Answer;
use crate::events::EventSender;
use crate::handover::Handover;
use crate::heap::Heap;
use crate::hub::Hub;
use crate::listener::ClientSocket;
use crate::log::Log;
use crate::signals::Signals;
use crate::systemd::Manager;

pub use self::resume::Pause;
pub use self::saved::SavedProcess;

/// Size of the one receive buffer in bytes: every connection's reads go through it.
const BUFFER: usize = 64 * 1024;
/// Events taken from the poll in one turn: each is at most one read and a bounded number of requests.
const EVENTS: usize = 256;
/// How long the exit waits for the last log lines to be written.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

pub const SIGNALS: Token = Token(usize::MAX - 1);
pub const WAKER: Token = Token(usize::MAX - 2);
/// The output of a program that is tried.
const HANDOVER: Token = Token(usize::MAX - 3);
/// The first of the broker's links, which have the [`MOST_LINKS`] tokens below those of the listeners.
pub const FIRST_LINK: Token = Token(acceptor::FIRST_LISTENER - MOST_LINKS);

/// What the loop turns, built by [`start`](crate::start) and registered with the poll under the tokens above.
pub struct Parts {
    pub poll: Poll,
    pub signals: Signals,
    pub acceptor: Acceptor,
    pub hub: Hub<ClientSocket>,
    pub authorizer: Option<Authorizer>,
    pub broker: Broker,
    /// `None`: events have no receiver.
    pub events: Option<EventSender>,
    pub manager: Manager,
    pub handover: Handover,
    pub log: Log,
    /// This process's random name.
    pub node: u64,
    /// When the clock began.
    pub started: Instant,
    pub drain_time: Millis,
    /// How long a handover waits for what is under way.
    pub authorizer_timeout: Millis,
}

/// The server, listening.
pub struct Server {
    poll: Poll,
    signals: Signals,
    acceptor: Acceptor,
    hub: Hub<ClientSocket>,
    authorizer: Option<Authorizer>,
    broker: Broker,
    events: Option<EventSender>,
    manager: Manager,
    handover: Handover,
    log: Log,
    heap: Heap,
    node: u64,
    started: Instant,
    /// When the last turn ended, since `started`.
    turn_ended: Duration,
    /// When `Clock::date` has to be formatted again.
    date_until: Millis,
    drain_time: Millis,
    /// How long a handover waits for what is under way.
    authorizer_timeout: Millis,
    /// When a graceful stop ends, even with clients still connected. `None` until a signal arrives.
    stop_at: Option<Millis>,
}

impl Server {
    /// A server whose first turn begins now.
    pub fn new(parts: Parts) -> Server {
        let mut server = Server {
            poll: parts.poll,
            signals: parts.signals,
            acceptor: parts.acceptor,
            hub: parts.hub,
            authorizer: parts.authorizer,
            broker: parts.broker,
            events: parts.events,
            manager: parts.manager,
            handover: parts.handover,
            log: parts.log,
            heap: Heap::default(),
            node: parts.node,
            started: parts.started,
            turn_ended: parts.started.elapsed(),
            date_until: 0,
            drain_time: parts.drain_time,
            authorizer_timeout: parts.authorizer_timeout,
            stop_at: None,
        };
        server.set_clock();
        server
    }

    /// Serves until a signal stops it. Returns the exit status.
    ///
    /// # Errors
    /// [`Stop`] with status 1 when the poll fails, which it should not.
    pub fn run(mut self) -> Result<u8, Stop> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        let mut answers = Vec::new();
        let status = loop {
            self.wait(&mut events, self.timeout())?;
            if let ControlFlow::Break(status) = self.tick(&events, &mut buffer, &mut answers) {
                self.hub.announce_gone();
                self.take_effects();
                break status;
            }
            self.turn_ended = self.started.elapsed();
            self.hub.turn_over(self.turn_ended);
            let (now, connections) = (self.hub.clock.now, self.hub.connections());
            self.manager.turn(now, connections);
            self.heap
                .turn(now, !events.is_empty(), || self.hub.free_spares());
        };
        self.log.flush(LOG_FLUSH_TIMEOUT);
        Ok(status)
    }

    /// Turns the loop until the broker is up, or `timeout` is over. Returns what was found, in lines.
    ///
    /// # Errors
    /// Why the broker is not up.
    pub fn try_broker(mut self, timeout: Duration) -> Result<Vec<String>, String> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        while !self.hub.is_broker_up() {
            if !self.broker.trouble().is_empty() {
                return Err(self.broker.trouble().to_owned());
            }
            let left = timeout.saturating_sub(self.started.elapsed());
            if left.is_zero() && !self.broker.last_trouble().is_empty() {
                return Err(self.broker.last_trouble().to_owned());
            }
            if left.is_zero() {
                let timeout = humantime::format_duration(timeout);
                return Err(format!("no reply within {timeout}"));
            }
            let timeout = self.timeout().map_or(left, |timeout| timeout.min(left));
            self.wait(&mut events, Some(timeout))
                .map_err(|stop| stop.text)?;
            let _ = self.tick(&events, &mut buffer, &mut Vec::new());
        }
        Ok(self.broker.found())
    }

    /// Sleeps until something happens or `timeout` is over, then sets the clock.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<(), Stop> {
        match self.poll.poll(events, timeout) {
            // An interrupted poll may have written events; the next poll returns them again.
            Err(e) if e.kind() == io::ErrorKind::Interrupted => events.clear(),
            other => other.map_err(|e| Stop::failed(format_args!("the poll failed: {e}")))?,
        }
        self.set_clock();
        Ok(())
    }

    /// One turn of the loop. Breaks with the exit status.
    fn tick(
        &mut self,
        events: &Events,
        buffer: &mut [u8],
        answers: &mut Vec<Answer>,
    ) -> ControlFlow<u8> {
        for event in events {
            match event.token() {
                SIGNALS => self.take_signals()?,
                WAKER | HANDOVER => {}
                token if self.acceptor.ready(token) => {}
                token if token >= FIRST_LINK => self.broker.ready(token.0 - FIRST_LINK.0, event),
                token => self.ready(token, event, buffer),
            }
        }
        self.acceptor.accept(&mut self.hub, self.poll.registry());
        self.take_answers(answers);
        self.take_news(buffer);
        self.hub.turns(buffer);
        self.take_effects();
        self.hub.expire();
        self.hub.fan_out();
        self.acceptor.evict(&mut self.hub, buffer);
        self.hub.flush();
        let before = self.hub.connections();
        self.hub.reap();
        if self.hub.connections() < before {
            self.acceptor.resume();
        }
        self.send_events();
        self.advance_handover()?;
        self.stop_if_due()
    }

    #[inline(always)]
    fn ready(&mut self, token: Token, event: &Event, buffer: &mut [u8]) {
        let reset = event.is_error();
        let closed = event.is_read_closed() || reset;
        let reported = Readiness {
            readable: event.is_readable() || closed,
            writable: event.is_writable(),
            closed,
            reset,
        };
        let id = acceptor::connection_id(token);
        self.hub.ready(id, reported, buffer);
    }

    /// How long the poll may sleep. `None`: until an event arrives.
    fn timeout(&self) -> Option<Duration> {
        let broker_has_work = self.broker.has_work();
        let recalled = self.authorizer.as_ref().map(Authorizer::has_recalled);
        if self.hub.has_work() || broker_has_work || recalled == Some(true) {
            return Some(Duration::ZERO);
        }
        let broker = self.broker.next_deadline();
        let question = self.authorizer.as_ref().and_then(Authorizer::due);
        let question = question.map(|due| millis(due.saturating_duration_since(self.started)));
        let next = [
            self.hub.next_deadline(),
            self.events.as_ref().and_then(EventSender::next_deadline),
            broker,
            question,
            self.manager.next_deadline(),
            self.heap.next_deadline(),
            self.acceptor.next_deadline(),
            self.handover
                .next_deadline(self.started, self.hub.clock.now),
            self.stop_at,
        ]
        .into_iter()
        .flatten()
        .min()?;
        // `passed` is rounded down, so the sleep never ends before the deadline.
        let passed = millis(self.turn_ended);
        Some(Duration::from_millis(next.saturating_sub(passed)))
    }

    fn set_clock(&mut self) {
        let elapsed = self.started.elapsed();
        let now = millis(elapsed);
        self.hub.clock.now = now;
        self.hub.clock.micros = micros(elapsed);
        if now >= self.date_until {
            let wall = SystemTime::now().max(SystemTime::UNIX_EPOCH);
            let unix = wall
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            self.date_until = now + 1000 - Millis::from(unix.subsec_millis());
            self.hub.clock.unix = millis(unix).saturating_sub(now);
            self.hub.clock.date = httpdate::fmt_http_date(wall);
        }
    }
}
