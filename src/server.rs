//! The loop: waits for the poll, and turns the hub, the acceptor, the authorizer and the broker in a fixed order.
//!
//! Owns: the poll, the signals, the receive buffer, the clock. Knows: readiness, and what passes between the hub and its
//! drivers. Never knows: a rule about a client, or how a part is built.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use mio::event::Event;
use mio::{Events, Poll, Token};
use signal_hook_mio::v1_0::Signals;

use crate::acceptor::{self, Acceptor};
use crate::authorizer::Authorizer;
use crate::broker::redis::MOST_LINKS;
use crate::broker::{Broker, News};
use crate::clock::{Millis, millis};
use crate::config::Stop;
use crate::effect::{Answer, Effect, Question};
use crate::events::EventSender;
use crate::heap::Heap;
use crate::hub::Hub;
use crate::listener::ClientSocket;
use crate::log::{Log, Value};
use crate::systemd::Manager;

/// Size of the one receive buffer in bytes: every connection's reads go through it.
const BUFFER: usize = 64 * 1024;
/// Events taken from the poll in one turn: each is at most one read and a bounded number of requests.
const EVENTS: usize = 256;
/// How long the exit waits for the last log lines to be written.
const LOG_PATIENCE: Duration = Duration::from_millis(500);

pub const SIGNALS: Token = Token(usize::MAX - 1);
pub const WAKER: Token = Token(usize::MAX - 2);
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
    pub log: Log,
    pub drain_time: Millis,
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
    log: Log,
    heap: Heap,
    started: Instant,
    /// When the last turn ended, since `started`.
    turn_ended: Duration,
    /// When `Clock::date` has to be formatted again.
    date_until: Millis,
    drain_time: Millis,
    /// When a graceful stop ends, even with clients still connected. `None` until a signal arrives.
    stop_at: Option<Millis>,
}

impl Server {
    /// A server whose clock starts now.
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
            log: parts.log,
            heap: Heap::default(),
            started: Instant::now(),
            turn_ended: Duration::ZERO,
            date_until: 0,
            drain_time: parts.drain_time,
            stop_at: None,
        };
        server.set_clock();
        server
    }

    /// Serve until a signal stops it. Returns the exit status.
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
                self.hub.leave_nodes();
                self.take_effects();
                break status;
            }
            self.turn_ended = self.started.elapsed();
            self.hub.turn_over(self.turn_ended);
            let (now, connections) = (self.hub.clock.now, self.hub.connections());
            self.manager.turn(now, connections);
            self.heap.turn(now, !events.is_empty());
        };
        self.log.flush(LOG_PATIENCE);
        Ok(status)
    }

    /// Turn the loop until the broker is up, or `patience` is over. Returns what was found, in lines.
    ///
    /// # Errors
    /// Why the broker is not up.
    pub fn try_broker(mut self, patience: Duration) -> Result<Vec<String>, String> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        while !self.hub.is_broker_up() {
            if !self.broker.trouble().is_empty() {
                return Err(self.broker.trouble().to_owned());
            }
            let left = patience.saturating_sub(self.started.elapsed());
            if left.is_zero() && !self.broker.last_trouble().is_empty() {
                return Err(self.broker.last_trouble().to_owned());
            }
            if left.is_zero() {
                let patience = humantime::format_duration(patience);
                return Err(format!("no reply within {patience}"));
            }
            let timeout = self.timeout().map_or(left, |timeout| timeout.min(left));
            self.wait(&mut events, Some(timeout))
                .map_err(|stop| stop.text)?;
            let _ = self.tick(&events, &mut buffer, &mut Vec::new());
        }
        Ok(self.broker.found())
    }

    /// Sleep until something happens or `timeout` is over, then set the clock.
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
                WAKER => {}
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
        self.stop_if_due()
    }

    #[inline(always)]
    fn ready(&mut self, token: Token, event: &Event, buffer: &mut [u8]) {
        let reset = event.is_error();
        let closed = event.is_read_closed() || reset;
        self.hub.ready(
            acceptor::connection_id(token),
            event.is_readable() || closed,
            closed,
            reset,
            event.is_writable(),
            buffer,
        );
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
        self.hub.clock.micros = elapsed.as_micros() as u64;
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

    /// Turn the broker and pass its news to the hub.
    fn take_news(&mut self, buffer: &mut [u8]) {
        let now = self.hub.clock.now;
        self.broker.turn(self.poll.registry(), buffer, now);
        while let Some(news) = self.broker.next(now) {
            match news {
                News::Shard(shard, name) => self.hub.name_shard(shard, name),
                News::Slots(slots, shard) => self.hub.assign_slots(slots, shard),
                News::Publishing(shard, up) => self.hub.set_publishing(shard, up),
                News::Listening(shard, up) => self.hub.set_listening(shard, up),
                News::Published(by, receipt) => self.hub.receipt(by, receipt),
                News::Returned(publication) => self.hub.returned(publication),
                News::Subscribed(id, receipt) => self.hub.subscribed(id, receipt),
                News::Dropped(why) => self.hub.metrics_mut().broker_messages.add(why),
                News::Message(message) => {
                    let (channel, content) = self.broker.content(&message);
                    if self.hub.arrived(channel, content) {
                        self.broker.take(&message);
                    } else {
                        self.broker.put_off(&message);
                    }
                }
            }
        }
        if self.broker.judge(self.hub.is_broker_up(), now) {
            self.hub.drivers.broker_reconnections += 1;
        }
    }

    /// Hand the hub's effects to the authorizer and the broker.
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
                Effect::Recall => {
                    if let Some(authorizer) = &mut self.authorizer {
                        authorizer.recall();
                    }
                }
                Effect::Publish(publication) => self.broker.publish(publication, now),
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
        let answer = Answer::unavailable(question.from, trouble, Duration::ZERO);
        self.hub.verdict(answer.returning(question));
    }

    fn take_answers(&mut self, answers: &mut Vec<Answer>) {
        let Some(authorizer) = &mut self.authorizer else {
            return;
        };
        let load = authorizer.answers(answers);
        self.hub.drivers.questions_in_flight = load.in_flight as u64;
        self.hub.drivers.questions_waiting = load.waiting as u64;
        for answer in answers.drain(..) {
            self.hub.verdict(answer);
        }
    }

    /// Hand the hub's events to their receiver.
    fn send_events(&mut self) {
        let Some(events) = &mut self.events else {
            return;
        };
        let now = self.hub.clock.now;
        if let Some((result, dropped)) = events.take_result(now) {
            let metrics = self.hub.metrics_mut();
            metrics.event_calls.add(result.as_str());
            metrics.events_dropped += dropped as u64;
        }
        if events.is_free()
            && let Some(batch) = self.hub.take_events()
        {
            events.begin(batch);
        }
        events.call(now);
        let (count, oldest) = events.under_way();
        self.hub.drivers.events_under_way = count as u64;
        self.hub.drivers.oldest_event = oldest;
    }

    /// The first signal begins a graceful stop; a second one breaks with the exit status.
    fn take_signals(&mut self) -> ControlFlow<u8> {
        let signals: Vec<i32> = self.signals.pending().collect();
        for signal in signals {
            let number = ("signal", Value::Number(signal as u64));
            if self.stop_at.is_some() {
                self.log.warn("second signal: exiting at once", &[number]);
                return ControlFlow::Break(128 + signal as u8);
            }
            let fields = [
                number,
                ("connections", Value::Number(self.hub.connections() as u64)),
                ("drain_ms", Value::Number(self.drain_time)),
            ];
            let message = "stopping: clients are disconnected over the drain time";
            self.log.info(message, &fields);
            self.stop_at = Some(self.hub.clock.now + self.drain_time);
            self.hub.drain(self.drain_time);
            if let Some(events) = &mut self.events {
                events.hurry();
            }
            self.manager.stopping(self.drain_time);
        }
        ControlFlow::Continue(())
    }

    /// Breaks when a graceful stop is over: no client and no event is left, or its time is up.
    fn stop_if_due(&self) -> ControlFlow<u8> {
        let Some(at) = self.stop_at else {
            return ControlFlow::Continue(());
        };
        // What waits is under way before the last batch is forgotten.
        let told = self.events.as_ref().is_none_or(EventSender::is_free);
        if self.hub.clock.now < at && !(told && self.hub.is_drained()) {
            return ControlFlow::Continue(());
        }
        let connections = Value::Number(self.hub.connections() as u64);
        let events = Value::Number(self.hub.events_left());
        let fields = [("connections_left", connections), ("events_left", events)];
        let shown = if self.events.is_some() { 2 } else { 1 };
        self.log.info("stopped", &fields[..shown]);
        ControlFlow::Break(0)
    }
}
