//! All connections. The hub decides; it never calls out.
//!
//! Owns: the registry, the channels, what is under way to their members, and the lists of who has to be looked at.
//! Knows: its settings, and what time it is told. Never knows: poll, threads, the clock, ureq, redis.
//!
//! Its doors: [`Hub::accept`], [`Hub::ready`], [`Hub::verdict`], [`Hub::turns`], [`Hub::fan_out`], [`Hub::flush`],
//! [`Hub::expire`], [`Hub::make_room`], [`Hub::reap`], [`Hub::drain`], [`Hub::turn_over`], and the broker's (broker.rs);
//! what it wants from outside leaves by [`Hub::effect`]. Whatever was done to a connection, `Hub::settle` draws the
//! consequences.
//!
//! Decision: with the memory broker a broadcast is delivered here at once, over sending it out as an effect and taking it
//! back in. Because then nothing has to wait for a receipt, and what is read in one turn becomes one run.
//!
//! Decision: the metrics of the process are read while `/metrics` is answered ([`process`]), over an effect, a phase to
//! wait in and a way back: the one exception to not calling out, as nothing that is decided here hangs on them.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod audience;
mod broker;
mod channels;
mod commands;
mod deadlines;
mod drain;
mod endpoints;
mod limits;
mod report;
mod roster;
mod subscriptions;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use self::channels::{AudienceId, Channels, Released};
use self::deadlines::Deadlines;
use self::drain::Drain;
use self::limits::eviction::Search;
use self::limits::memory::Backlog;
use self::limits::message_rate::Rates;
use self::limits::per_address::Addresses;
use self::report::access_log::{Access, Subject};
use self::report::tap::{Delivery, Taps};
use self::roster::{Name, Registry};
use crate::buffers::{Inbox, Runs};
use crate::config::{AccessLog, Secret};
use crate::connection::{
    Awaits, Clock, Ending, Event, Filled, Identities, Limits, Millis, Parked, Peer, Standing,
    Stream,
};
use crate::effect::{Answer, ConnId, Effect, Verdict};
use crate::log::{Log, Value};
use crate::metrics::{Gauges, Metrics};
use crate::process;
use crate::wire::forwarded::Proxies;
use crate::wire::frame;
use crate::wire::origins::Origins;

/// Requests or messages of one connection in one turn: what one read of small messages brings makes one batch, and a
/// flood waits for its next turn.
const EVENTS_PER_TURN: usize = 512;
/// Requests or messages of all connections in one turn of the loop, and again as many of those with work left over: then
/// whoever comes waits in the again-list.
const EVENTS: usize = 4096;
/// Connections with work left over that get a turn between two polls.
const TURNS: usize = 256;
/// Sends of broadcasts between two polls, and to one audience before the next gets its share. Large frames count for
/// more.
const SENDS: usize = 32;
const SENDS_PER_AUDIENCE: usize = 16;
/// A send costs one more for each of these bytes.
const SEND_COST: usize = 64 * 1024;
/// Deadlines looked at between two polls: most of them are a ping, a small send.
const DEADLINES: usize = 64;
/// Connections dropped between two polls: closing a socket is the dearest thing there is.
const DROPS: usize = 64;
/// Slots that a graceful stop, or whoever looks for a place, looks at between two polls.
const WALK: u32 = 4096;
/// How long too much is said to wait at least, so that a crowd which comes and goes does not flood the log.
const STEADY: Millis = 5_000;

/// What the hub goes by.
#[derive(Debug)]
pub struct Settings {
    pub limits: Limits,
    /// WebSockets and upgrades under way.
    pub max_connections: usize,
    /// The same from one address; 0 is no limit.
    pub max_connections_per_ip: usize,
    /// Bytes that may wait in all, in both directions.
    pub max_total_queue: usize,
    /// Channels that one connection may be in.
    pub max_channels: usize,
    /// Messages that one connection may send in a second; 0 is no limit.
    pub max_message_rate: u64,
    /// Whether `GET /` is the playground.
    pub playground: bool,
    /// What backend endpoints ask for.
    pub key: Option<Secret>,
    pub origins: Origins,
    /// Who is believed about the addresses of others.
    pub proxies: Proxies,
    /// Whether they begin with a header of the PROXY protocol, and those on a unix socket too.
    pub proxy_protocol: bool,
    /// Whether there is an authorizer; without one everything is allowed.
    pub authorizer: bool,
    pub access_log: AccessLog,
    /// Tells this process from others in connections' ids, and seeds what is to look random.
    pub instance: u64,
}

/// Entries of a list in [`ToDrop`].
const TO_DROP: usize = 1024;

/// Connections to be dropped, in short lists, of which the oldest is worked off first. One long list would have to be
/// moved where it outgrows its place, and when a crowd leaves at once that takes milliseconds.
#[derive(Debug, Default)]
struct ToDrop(VecDeque<Vec<ConnId>>);

impl ToDrop {
    fn push(&mut self, id: ConnId) {
        match self.0.back_mut() {
            Some(list) if list.len() < TO_DROP => list.push(id),
            _ => self.0.push_back(vec![id]),
        }
    }

    fn pop(&mut self) -> Option<ConnId> {
        let list = self.0.front_mut()?;
        let id = list.pop();
        // The last list is kept, so that a steady coming and going allocates nothing.
        if list.is_empty() && self.0.len() > 1 {
            self.0.pop_front();
        }
        id
    }

    fn is_empty(&self) -> bool {
        self.0.front().is_none_or(Vec::is_empty)
    }
}

pub struct Hub<S> {
    settings: Settings,
    pub clock: Clock,
    registry: Registry<S>,
    channels: Channels,
    addresses: Addresses,
    backlog: Backlog,
    /// The log has said that the server is full.
    said_full: bool,
    /// When the log has said that too much waits.
    said_overloaded: Option<Millis>,
    rates: Rates,
    runs: Runs,
    deadlines: Deadlines,
    identities: Identities,
    /// Audiences with something to be sent.
    serving: VecDeque<AudienceId>,
    /// There were some at the end of the last turn.
    fanning_out: bool,
    /// Connections with work but no edge to come.
    again: VecDeque<ConnId>,
    /// Who has waited for a channel, and may try again.
    released: VecDeque<Released>,
    /// Connections with something in the outbox.
    dirty: Vec<ConnId>,
    /// Connections to be dropped.
    to_drop: ToDrop,
    effects: VecDeque<Effect>,
    /// The broker takes what is published.
    publishing: bool,
    /// Requests and messages understood so far, of [`EVENTS`].
    understood: usize,
    due: Vec<(u32, u32)>,
    failed: Vec<ConnId>,
    /// When the batches were begun that have gone out in this turn.
    gone_out: Vec<u32>,
    websockets: usize,
    /// Connections that would miss the server, though they are no WebSockets.
    busy: usize,
    drain: Option<Drain>,
    search: Search,
    random: u64,
    pub metrics: Metrics,
    /// What only the server knows of the gauges.
    pub drivers: DriverGauges,
    access: Access,
    taps: Taps,
    log: Log,
}

/// Gauges of those whom the hub does not know.
#[derive(Debug, Default)]
pub struct DriverGauges {
    pub questions_in_flight: u64,
    pub questions_waiting: u64,
    pub broker_reconnections: u64,
}

/// What the hub holds on to: when everybody has gone, nothing.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub connections: usize,
    pub websockets: usize,
    pub channels: usize,
    pub memberships: usize,
    /// Addresses that are remembered.
    pub addresses: usize,
    /// Queries and states that are remembered.
    pub identities: usize,
    /// Buffers of what was published.
    pub runs: usize,
    /// Bytes that wait, in both directions; what is shared counts once.
    pub waiting: usize,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Connections whose other side has to read before more can be sent.
    pub laggards: usize,
    pub taps: usize,
}

impl<S: Stream> Hub<S> {
    pub fn new(settings: Settings, clock: Clock, mut metrics: Metrics, log: Log) -> Hub<S> {
        metrics.endings.know(&Ending::LABELS);
        Hub {
            random: settings.instance | 1,
            taps: Taps::default(),
            access: Access::new(settings.access_log, log.clone()),
            backlog: Backlog::new(settings.max_total_queue, settings.limits.max_queue),
            said_full: false,
            said_overloaded: None,
            addresses: Addresses::new(settings.max_connections_per_ip),
            rates: Rates::new(settings.max_message_rate),
            settings,
            clock,
            registry: Registry::default(),
            channels: Channels::default(),
            runs: Runs::default(),
            deadlines: Deadlines::default(),
            identities: Identities::default(),
            serving: VecDeque::new(),
            fanning_out: false,
            again: VecDeque::new(),
            released: VecDeque::new(),
            dirty: Vec::new(),
            to_drop: ToDrop::default(),
            effects: VecDeque::new(),
            publishing: true,
            understood: 0,
            due: Vec::new(),
            failed: Vec::new(),
            gone_out: Vec::new(),
            websockets: 0,
            busy: 0,
            drain: None,
            search: Search::default(),
            metrics,
            drivers: DriverGauges::default(),
            log,
        }
    }

    /// Takes a new connection in.
    ///
    /// # Errors
    /// There are more than can be named.
    pub fn accept(&mut self, stream: S, peer: Peer) -> io::Result<ConnId> {
        let id = self.registry.insert(stream, peer, self.clock.now)?;
        let trusted = peer == Peer::UNIX || self.settings.proxies.trusts(peer.ip());
        if self.settings.proxy_protocol
            && trusted
            && let Some(connection) = self.registry.get(id)
        {
            connection.session.expect_proxy();
        }
        self.rates.begin(id.slot);
        self.metrics.connections = self.metrics.connections.saturating_add(1);
        self.access.accepted(id.slot, self.clock.now);
        self.settle(id);
        Ok(id)
    }

    /// The stream of a connection, to be registered with the poll.
    pub fn stream(&mut self, id: ConnId) -> Option<&mut S> {
        self.registry.get(id).map(|c| c.stream_mut())
    }

    /// A connection is of no use: it could not be registered.
    pub fn fail(&mut self, id: ConnId) {
        if let Some(connection) = self.registry.get(id) {
            connection.session.fail(Ending::Reset);
            self.settle(id);
        }
    }

    /// The poll had something to say of a connection. `closed`: nothing will come after what there is to read.
    #[inline(always)]
    pub fn ready(
        &mut self,
        id: ConnId,
        readable: bool,
        closed: bool,
        writable: bool,
        buffer: &mut [u8],
    ) {
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        if writable && connection.outbox.is_blocked() {
            connection.outbox.unblock();
            connection.dirty = true;
            self.dirty.push(id);
        }
        if readable {
            connection.readable(closed);
            self.turn(id, buffer);
        }
    }

    /// Gives those their turn who have work but no edge to come.
    pub fn turns(&mut self, buffer: &mut [u8]) {
        for _ in 0..TURNS {
            let Some(released) = self.released.front_mut() else {
                break;
            };
            if let Some(id) = released.next() {
                self.resume(id);
            } else if let Some(done) = self.released.pop_front() {
                self.channels.released(&done);
            }
        }
        self.channels.restore();
        self.understood = 0;
        for _ in 0..self.again.len().min(TURNS) {
            let Some(id) = self.again.pop_front() else {
                break;
            };
            if let Some(connection) = self.registry.get(id) {
                connection.queued = false;
                self.turn(id, buffer);
            }
        }
        self.understood = 0;
    }

    /// The authorizer's word. Comes it too late, it is forgotten.
    pub fn verdict(&mut self, answer: Answer) {
        let id = answer.to;
        self.metrics.verdict_time.observe(answer.took);
        self.metrics.verdicts.add(answer.verdict.as_str());
        let now = self.clock.now;
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        if let Some(authorizing) = connection.session.take_authorizing() {
            connection.starved = false;
            self.tap_verdict(&answer, "connect", None);
            self.authorized(id, authorizing, answer.verdict, answer.state.as_deref());
        } else if let Some(parked) = connection.session.unpark(Awaits::Verdict, now) {
            let Parked {
                command, message, ..
            } = parked;
            connection.starved = false;
            self.tap_verdict(
                &answer,
                command.verb.as_str(),
                Some(command.channel(&message)),
            );
            match answer.verdict {
                Verdict::Allow => self.perform(id, command, &message),
                Verdict::Deny => self.deny(id, &command, &message),
                Verdict::Unavailable => {
                    self.metrics
                        .commands
                        .add([command.verb.as_str(), "unavailable"]);
                    self.close(id, Ending::AuthorizerDown);
                }
            }
        }
        self.settle(id);
    }

    /// What is wanted next from outside.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects
            .pop_front()
            .or_else(|| self.channels.link.change())
    }

    /// One turn of a connection: at most one read, and a bounded number of requests or messages.
    #[inline(always)]
    fn turn(&mut self, id: ConnId, buffer: &mut [u8]) {
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        if !connection.is_listening() {
            return;
        }
        if self.understood >= EVENTS {
            return self.settle(id);
        }
        if !connection.starved {
            self.understand_inbox(id);
        } else if connection.is_unread() {
            match connection.fill(buffer, self.clock.now) {
                Filled::Bytes(count) => {
                    self.metrics.received = self.metrics.received.saturating_add(count as u64);
                    self.access.read(id.slot, count);
                    let fresh = buffer.get_mut(..count).unwrap_or_default();
                    if connection.inbox.is_empty() {
                        let used = self.understand(id, fresh);
                        if let Some(connection) = self.registry.get(id) {
                            let rest = fresh.get(used..).unwrap_or_default();
                            connection.inbox.append(rest);
                        }
                    } else {
                        connection.inbox.append(fresh);
                        self.understand_inbox(id);
                    }
                }
                Filled::Nothing => {}
                Filled::End => connection.session.ended(&connection.outbox, self.clock.now),
                Filled::Broken => connection.session.fail(Ending::Reset),
            }
        }
        self.settle(id);
    }

    /// Understands what waits in the inbox.
    fn understand_inbox(&mut self, id: ConnId) {
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        let mut inbox = connection.inbox.take();
        let used = self.understand(id, inbox.bytes());
        if let Some(connection) = self.registry.get(id) {
            connection.inbox.put_back(inbox, used);
        }
    }

    /// Understands as much of `input` as there is, or as may be in one turn. Returns how many bytes that was.
    fn understand(&mut self, id: ConnId, input: &mut [u8]) -> usize {
        let mut used = 0;
        for _ in 0..EVENTS_PER_TURN {
            let Some(connection) = self.registry.get(id) else {
                return used;
            };
            connection.starved = false;
            if !connection.is_listening() {
                return used;
            }
            let rest = input.get_mut(used..).unwrap_or_default();
            let step = connection.next(rest, &self.clock, &self.settings.limits);
            used = used.saturating_add(step.used);
            self.understood = self.understood.saturating_add(1);
            match step.event {
                None => {
                    connection.starved = true;
                    return used;
                }
                Some(Event::Introduced(client)) => {
                    if let Some(client) = client {
                        connection.peer = Peer::new(client);
                    }
                }
                Some(Event::Request(exchange, head, body)) => {
                    let body = body.and_then(|range| rest.get(range));
                    self.request(id, exchange, &head, body);
                }
                Some(Event::Body(exchange, payload)) => self.body(id, exchange, payload.of(rest)),
                Some(Event::Bye(ending)) => self.close(id, ending),
                Some(Event::BadBody(exchange, refusal)) => {
                    self.refuse(id, "broadcast", exchange, refusal, true)
                }
                Some(Event::Said(_, payload)) => self.said(id, payload.of(rest)),
            }
        }
        used
    }

    /// Draws the consequences of whatever was done to a connection: who is to be flushed, looked at again, closed,
    /// dropped, and when.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "whoever is no longer counted was counted: what is wrong here is to be seen by tests, not to be hidden"
    )]
    fn settle(&mut self, id: ConnId) {
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        if connection.too_slow {
            if !self
                .backlog
                .is_short_for(connection.outbox.len(), &self.runs)
            {
                self.close(id, Ending::TooSlow);
            } else if !connection.session.is_over() {
                // What waits for it is let go at once, which a close frame behind it would not do.
                connection.session.fail(Ending::TooSlow);
                self.say_overloaded();
            }
        } else if connection.stopping && !connection.session.is_parked() {
            self.close(id, Ending::Stopping);
        }
        self.weigh(id);
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        let standing = connection.standing();
        let before = std::mem::replace(&mut connection.counted, standing);
        let network = connection.client().network();
        if standing != before {
            match before {
                Standing::Idle => {}
                Standing::Busy => self.busy -= 1,
                Standing::WebSocket => {
                    if let Some(ending) = connection.session.ending() {
                        self.tap_end(id, ending);
                    }
                    self.websockets -= 1;
                    // Not at the first place that is free: a server that stays nearly full would fill the log.
                    if self.said_full
                        && self.websockets.saturating_mul(10)
                            < self.settings.max_connections.saturating_mul(9)
                    {
                        self.said_full = false;
                        self.log.info("the server is no longer full", &[]);
                    }
                    self.addresses.leave(id.slot);
                    self.channels.leave_all(id.slot, &mut self.runs);
                }
            }
            match standing {
                Standing::Idle => {}
                Standing::Busy => self.busy += 1,
                Standing::WebSocket => {
                    self.websockets += 1;
                    self.addresses.enter(id.slot, network);
                }
            }
        }
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        connection.outbox.count(&mut self.runs);
        let unsent = !connection.outbox.is_empty() || connection.session.is_finishing();
        if unsent && !connection.outbox.is_blocked() && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        if connection.session.is_over() {
            if !connection.to_drop {
                connection.to_drop = true;
                self.to_drop.push(id);
            }
            return;
        }
        if connection.has_work() && !connection.queued {
            connection.queued = true;
            self.again.push_back(id);
        }
        if let Some(at) = connection
            .session
            .deadline(self.clock.now, &self.settings.limits)
            && (connection.alarm == 0 || Deadlines::is_before(at, connection.alarm))
        {
            connection.alarm = self.deadlines.insert(id.slot, at);
        }
    }

    /// How much may wait for one connection now; and whether there is room again.
    fn look_for_room(&mut self) {
        self.settings.limits.max_queue = self.backlog.queue(&self.runs);
        let said = self.said_overloaded.map(|at| at.saturating_add(STEADY));
        if said.is_some_and(|at| at <= self.clock.now) && self.backlog.is_relaxed(&self.runs) {
            self.said_overloaded = None;
            self.log
                .info("there is room again for what has to wait", &[]);
        }
    }

    /// Notes how much of it waits, and ends it when that is too much for what is left of the room.
    fn weigh(&mut self, id: ConnId) {
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        let waiting = connection.waiting();
        self.backlog.note(id.slot, waiting);
        if waiting == 0 || waiting <= self.backlog.room_in() {
            return;
        }
        match connection.session.is_open() {
            true => self.close(id, Ending::Overloaded),
            false => connection.overload(&self.clock),
        }
        if let Some(connection) = self.registry.get(id) {
            connection.inbox = Inbox::default();
            self.backlog.note(id.slot, connection.waiting());
        }
        self.say_overloaded();
    }

    /// Says that too much waits, once, until there is room again.
    fn say_overloaded(&mut self) {
        if self.said_overloaded.is_none() {
            self.said_overloaded = Some(self.clock.now);
            self.log.warn(
                "too much waits: connections that hold much of it are ended; see --max-total-queue-size",
                &[("bytes", Value::Number(self.backlog.total(&self.runs) as u64))],
            );
        }
    }

    /// Begins the end of a WebSocket. What was published while it was a member goes before the close frame.
    fn close(&mut self, id: ConnId, ending: Ending) {
        let Some(connection) = self.registry.get(id) else {
            return;
        };
        if !connection.session.is_open() {
            return;
        }
        for slice in self.channels.owed_everywhere(id.slot) {
            let messages = frame::count(self.runs.slice(slice));
            self.metrics.delivered(messages);
            self.access.told(id.slot, messages);
            connection.owe(slice, &mut self.runs, &self.settings.limits);
        }
        connection
            .session
            .close(ending, &mut connection.outbox, self.clock.now);
    }

    /// Sends the next slices of what was published, round-robin between audiences. While that takes more than one turn, what
    /// others have been answered goes before.
    pub fn fan_out(&mut self) {
        self.look_for_room();
        if self.fanning_out {
            self.flush();
        }
        let mut left = SENDS;
        while left > 0 {
            let Some(place) = self.serving.pop_front() else {
                break;
            };
            let cost = self.serve(place, left.min(SENDS_PER_AUDIENCE));
            left = left.saturating_sub(cost);
        }
        self.fanning_out = !self.serving.is_empty();
    }

    /// Serves one audience until `budget` is used up or its batch has gone out.
    fn serve(&mut self, place: AudienceId, budget: usize) -> usize {
        let Some(audience) = self.channels.audience_mut(place) else {
            return 1;
        };
        // Mostly nobody looks on, and then this allocates nothing.
        let mut seen = Vec::new();
        let mut cost = 1_usize;
        let more = loop {
            if cost > budget {
                break true;
            }
            let Some((slot, slice, messages)) = audience.next(&self.runs) else {
                self.gone_out.extend(audience.since());
                break audience.finish_batch(&mut self.runs);
            };
            cost = cost
                .saturating_add(1)
                .saturating_add(slice.len() / SEND_COST);
            self.metrics.delivered(messages);
            let before = self.runs.taken;
            if let Some(connection) = self.registry.tenant(slot)
                && !connection.deliver(slice, &mut self.runs, &self.settings.limits)
            {
                let generation = connection.generation();
                self.failed.push(ConnId { slot, generation });
            }
            let sent = self.runs.taken.saturating_sub(before);
            self.access.delivered(slot, messages, sent);
            if self.taps.watches(slot)
                && let Some(connection) = self.registry.tenant(slot)
            {
                let generation = connection.generation();
                seen.push(Delivery {
                    id: ConnId { slot, generation },
                    messages,
                    bytes: slice.len() as u64,
                });
            }
        };
        if more {
            self.serving.push_back(place);
        } else {
            audience.listed = false;
        }
        self.tap_deliveries(place, &seen);
        self.released.extend(self.channels.served(place));
        while let Some(id) = self.failed.pop() {
            self.settle(id);
        }
        cost
    }

    /// Flushes each connection into whose outbox something was put, once.
    #[inline(always)]
    pub fn flush(&mut self) {
        self.pump_taps();
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(connection) = self.registry.get(id) {
                connection.dirty = false;
                let before = self.runs.taken;
                connection.flush(&mut self.runs, self.clock.now);
                let sent = self.runs.taken.saturating_sub(before);
                self.access.sent(id.slot, sent);
                self.settle(id);
            }
        }
        // What became dirty meanwhile is flushed next time; usually nothing did, and the list keeps its memory.
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
        // Where there is room again, now is the time to notice: no edge will come.
        self.pump_taps();
    }

    /// Looks at those whose deadline may have passed, and goes on with a graceful stop.
    pub fn expire(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.deadlines.take_due(self.clock.now, DEADLINES, &mut due);
        for (slot, step) in due.drain(..) {
            let Some(connection) = self.registry.tenant(slot).filter(|c| c.alarm == step) else {
                continue;
            };
            let generation = connection.generation();
            connection.alarm = 0;
            if connection
                .session
                .deadline(self.clock.now, &self.settings.limits)
                .is_some_and(|at| at <= self.clock.now)
            {
                connection.session.expire(
                    &mut connection.outbox,
                    &self.clock,
                    &self.settings.limits,
                );
            }
            self.settle(ConnId { slot, generation });
        }
        self.due = due;
        self.access.expire(self.clock.now);
        self.refuse_upgrades();
        self.tell_to_leave();
    }

    /// Drops those that are over: the only place where a connection ends.
    pub fn reap(&mut self) {
        for _ in 0..DROPS {
            let Some(id) = self.to_drop.pop() else {
                return;
            };
            let Some(mut connection) = self.registry.remove(id) else {
                continue;
            };
            if !self.taps.is_empty() {
                self.taps.forget(id);
            }
            connection.outbox.clear(&mut self.runs);
            self.identities.remove(connection.identity);
            self.backlog.note(id.slot, 0);
            let session = &connection.session;
            let ending = session.ending().unwrap_or(Ending::Answered);
            self.metrics.endings.add(ending.label());
            let name = Name {
                instance: self.settings.instance,
                serial: connection.serial(),
            };
            let who = Subject {
                slot: id.slot,
                name: &name,
                peer: connection.client(),
            };
            let unused = session.is_http() && !session.is_asked();
            self.access.ended(&who, ending, unused, self.clock.now);
        }
    }

    /// A turn is over that began when [`Clock::micros`] says; `end` is on the same clock. All that has gone out in it is
    /// taken to have done so at its end.
    pub fn turn_over(&mut self, end: Duration) {
        let micros = end.as_micros() as u64;
        let took = Duration::from_micros(micros.saturating_sub(self.clock.micros));
        self.metrics.turn_time.observe(took);
        self.metrics.longest_turn.observe(end, took);
        for since in self.gone_out.drain(..) {
            let took = (micros as u32).wrapping_sub(since);
            let took = Duration::from_micros(took.into());
            self.metrics.fanout_time.observe(took);
        }
    }

    /// Whether something is left to be done before anything else happens.
    pub fn has_work(&self) -> bool {
        !self.again.is_empty()
            || !self.released.is_empty()
            || !self.serving.is_empty()
            || !self.dirty.is_empty()
            || !self.to_drop.is_empty()
            || !self.effects.is_empty()
            || self.channels.link.has_work()
            || self.taps.has_work()
            || self.drain.as_ref().is_some_and(Drain::is_refusing)
    }

    /// When [`Hub::expire`] has to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        let leave = self.drain.as_ref().and_then(Drain::next);
        [
            self.deadlines.next_due(),
            leave,
            self.access.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Connections of any kind.
    pub fn connections(&self) -> usize {
        self.registry.len()
    }

    #[doc(hidden)]
    pub fn inventory(&self) -> Inventory {
        Inventory {
            connections: self.registry.len(),
            websockets: self.websockets,
            channels: self.channels.len(),
            memberships: self.channels.memberships(),
            addresses: self.addresses.len(),
            identities: self.identities.count(),
            runs: self.runs.live(),
            waiting: self.backlog.total(&self.runs),
            queued_bytes: self.runs.waiting.bytes,
            laggards: self.runs.waiting.blocked,
            taps: self.taps.len(),
        }
    }

    fn gauges(&self) -> Gauges {
        Gauges {
            websockets: self.websockets as u64,
            http_connections: self.registry.len().saturating_sub(self.websockets) as u64,
            channels: self.channels.len() as u64,
            memberships: self.channels.memberships() as u64,
            queued_bytes: self.runs.waiting.bytes as u64,
            laggards: self.runs.waiting.blocked as u64,
            taps: self.taps.len() as u64,
            lost_tap_lines: self.taps.lost(),
            questions_in_flight: self.drivers.questions_in_flight,
            questions_waiting: self.drivers.questions_waiting,
            broker_up: self.is_broker_up(),
            broker_reconnections: self.drivers.broker_reconnections,
            dropped_log_lines: self.log.dropped(),
            longest_turn: self
                .metrics
                .longest_turn
                .at(Duration::from_micros(self.clock.micros)),
            process: process::now(),
        }
    }

    /// In how many seconds somebody is to come back: at random, so that not all do so at once.
    fn retry_after(&mut self) -> String {
        (self.random() % 5).saturating_add(1).to_string()
    }

    /// A number that looks random (xorshift64*).
    fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
