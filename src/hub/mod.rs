//! All connections. The hub decides; it never calls out.
//!
//! Two exceptions, on which no decision depends: `/metrics` reads the metrics of the process from `/proc`
//! (`endpoints/metrics.rs`), and `compression.rs` reads the clock to measure how long it takes.
//!
//! Owns: its doors. [`server`](crate::server) calls them in the order of a turn: [`Hub::accept`], [`Hub::ready`],
//! [`Hub::verdict`], [`Hub::turns`], [`Hub::expire`], [`Hub::fan_out`], [`Hub::evict`], [`Hub::flush`], [`Hub::reap`],
//! [`Hub::take_events`], [`Hub::turn_over`], [`Hub::drain`], and the broker's; for a handover [`Hub::hold_back`],
//! [`Hub::take_back`], [`Hub::save`] and [`Hub::restore`]. Its requests to the drivers leave by [`Hub::effect`]. Knows: which
//! file does what a door is for. Never knows: poll, threads, the clock, ureq, redis.
//!
//! The files, from the top down: this one; `turn`, `resume`, `limits/eviction`, `drain`; `endpoints`, `delivery`; `nodes`; `backend`;
//! `commands`; `publish`, `permission`; `settle`, `replies`; `report`; `state`. Below are the parts of the state, which do not use
//! each other's doors. After each change to a connection, [`settle`](self::settle::settle) does what follows from it.

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

mod agenda;
mod audience;
mod backend;
mod broker;
mod channel;
mod channels;
mod commands;
mod compression;
mod deadlines;
mod delivery;
mod disconnects;
mod drain;
mod drain_plan;
mod effects;
mod endpoints;
mod failure;
mod finish;
mod frames;
mod grants;
mod limits;
mod memberships;
mod names;
mod nodes;
mod outage;
mod permission;
mod publish;
mod questions;
mod replies;
mod report;
mod resume;
mod returned;
mod roster;
mod saved;
mod settings;
mod settle;
mod shards;
mod slots;
mod state;
mod subscriptions;
mod turn;
mod users;
mod waiter;

use std::io;
use std::time::Duration;

pub use self::settings::{DriverGauges, EventSettings, FailurePolicy, Inventory, Settings};
pub use self::state::Hub;

use self::drain_plan::DrainPlan;
use self::nodes::Nodes;
use self::permission::Allowed;
use crate::clock::Millis;
use crate::connection::{Ending, Peer, Readiness, Stream};
use crate::effect::{Answer, ConnId, Effect};
use crate::metrics::Metrics;
use crate::wire::event_batch::EventBatch;

/// Connections released from waiting for a channel between two polls.
const RELEASES: usize = 256;
/// Deadlines checked between two polls. Most of them are a ping, a small send.
const DEADLINES: usize = 64;
/// Connections dropped between two polls: closing a socket is its most expensive system call.
const DROPS: usize = 64;

/// Accepted and ready connections.
impl<S: Stream> Hub<S> {
    /// Takes in a new connection.
    ///
    /// # Errors
    /// There are more than can be named.
    pub fn accept(&mut self, stream: S, peer: Peer) -> io::Result<ConnId> {
        let id = self.roster.insert(stream, peer, self.clock.now)?;
        let trusted = peer == Peer::UNIX || self.settings.proxies.trusts(peer.ip());
        if self.settings.proxy_protocol
            && trusted
            && let Some(connection) = self.roster.get(id)
        {
            connection.expect_proxy();
        }
        self.usage.message_rate.begin(id.slot);
        report::accepted(self, id);
        settle::settle(self, id);
        Ok(id)
    }

    /// The stream of a connection, to be registered with the poll.
    pub fn stream(&mut self, id: ConnId) -> Option<&mut S> {
        self.roster.get(id).map(|c| c.stream_mut())
    }

    /// All streams.
    pub fn streams(&self) -> impl Iterator<Item = (ConnId, &S)> {
        self.roster.all().map(|(slot, connection)| {
            let generation = connection.generation();
            (ConnId { slot, generation }, connection.stream_ref())
        })
    }

    /// Drops a connection that could not be registered.
    pub fn fail(&mut self, id: ConnId) {
        if let Some(connection) = self.roster.get(id) {
            connection.fail(Ending::Reset);
            settle::settle(self, id);
        }
    }

    /// Handles a connection that the poll has reported.
    #[inline(always)]
    pub fn ready(&mut self, id: ConnId, reported: Readiness, buffer: &mut [u8]) {
        let Some(connection) = self.roster.get(id) else {
            return;
        };
        if reported.writable && connection.writable() {
            self.agenda.flush(id, connection);
        }
        if reported.readable {
            connection.readable(reported.closed, reported.reset);
            turn::turn(self, id, buffer);
        }
    }

    /// Gives a turn to connections that need not wait for a channel any longer, and to those with work that the poll
    /// will not report.
    pub fn turns(&mut self, buffer: &mut [u8]) {
        for _ in 0..RELEASES {
            let Some(released) = self.agenda.released.front_mut() else {
                break;
            };
            if let Some(id) = released.next() {
                let receipt = released.receipt.clone();
                resume::resume(self, id, receipt);
            } else if let Some(done) = self.agenda.released.pop_front() {
                self.channels.released(&done);
            }
        }
        let refused = self.channels.restore(self.clock.now);
        nodes::rounds::ask_again(self, refused);
        nodes::rounds::advance(self);
        broker::retry(self);
        backend::advance_all(self);
        turn::again(self, buffer);
    }

    /// The authorizer's answer. A late one is ignored.
    pub fn verdict(&mut self, answer: Answer) {
        let id = answer.to;
        match permission::answer(self, answer) {
            Some(Allowed::Upgrade(upgrade, fields)) => {
                endpoints::upgrade::allowed(self, id, upgrade, fields);
            }
            Some(Allowed::Command(command, message)) => {
                commands::perform(self, id, command, &message);
            }
            None => {}
        }
        permission::refresh(self, id);
        settle::settle(self, id);
    }

    /// The events of the next call to their receiver. To be called while none is under way.
    pub fn take_events(&mut self) -> Option<EventBatch> {
        report::events::take(self)
    }

    /// What is wanted next from outside.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects
            .take()
            .or_else(|| self.channels.subscriptions.change())
    }
}

/// The rest of a turn.
impl<S: Stream> Hub<S> {
    /// Checks connections whose deadline may have passed, and continues a graceful stop.
    pub fn expire(&mut self) {
        let mut due = self.agenda.take_due(self.clock.now, DEADLINES);
        for (slot, step) in due.drain(..) {
            let Some((id, connection)) = self.roster.in_slot(slot) else {
                continue;
            };
            // The entry may be an old one, or a former connection's.
            if connection.marks().alarm == step {
                connection.marks().alarm = 0;
                connection.expire(&self.clock, &self.limits);
                permission::refresh(self, id);
                settle::settle(self, id);
            }
        }
        self.agenda.give_back(due);
        self.listeners.access_log.expire(self.clock.now);
        report::events::expire(self);
        questions::advance(self);
        failure::give_up_overdue(self);
        drain::advance(self);
    }

    /// Sends the next slices of what was published.
    pub fn fan_out(&mut self) {
        delivery::fan_out(self);
    }

    /// Evicts at most `wanted` connections, because file descriptors have run out and connections wait to be accepted.
    /// Returns whether it is worth going on.
    pub fn evict(&mut self, wanted: usize, buffer: &mut [u8]) -> bool {
        limits::eviction::evict(self, wanted, buffer)
    }

    /// Flushes each connection into whose outbox something was put, once.
    #[inline(always)]
    pub fn flush(&mut self) {
        delivery::flush(self);
    }

    /// Drops connections that are over. No connection is dropped elsewhere.
    pub fn reap(&mut self) {
        for _ in 0..DROPS {
            let Some(id) = self.agenda.next_to_drop() else {
                return;
            };
            let subject = self.roster.subject(id);
            let Some(mut connection) = self.roster.remove(id) else {
                continue;
            };
            connection.clear(&mut self.runs);
            self.roster.identities.remove(connection.identity());
            self.disconnects.end(id.slot);
            self.usage.memory.note(id.slot, 0);
            let ending = connection.ending().unwrap_or(Ending::Answered);
            report::dropped(self, id, subject, ending, connection.is_unused());
        }
    }

    /// Begins a graceful stop, which is to be over in `time`.
    pub fn drain(&mut self, time: Millis) {
        drain::begin(self, time);
    }

    /// Notes the end of a turn that began at [`Clock::micros`](crate::clock::Clock::micros); `end` is on the same
    /// clock.
    pub fn turn_over(&mut self, end: Duration) {
        self.listeners.turn_over(self.clock.micros, end);
    }

    /// Frees empty buffers that are kept for later. The next messages allocate new ones.
    pub fn free_spares(&mut self) {
        self.runs.free_spares();
    }
}

/// Questions of the server.
impl<S: Stream> Hub<S> {
    /// Whether something is left to be done before anything else happens.
    pub fn has_work(&self) -> bool {
        self.agenda.has_work()
            || self.jobs.has_work()
            || self.effects.has_work()
            || self.channels.subscriptions.has_work()
            || self.nodes.as_ref().is_some_and(Nodes::has_work)
            || self.listeners.taps.has_work()
            || self.drain.as_ref().is_some_and(DrainPlan::is_refusing)
    }

    /// When [`Hub::expire`] has to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Millis> {
        [
            self.agenda.next_deadline(),
            self.drain.as_ref().and_then(DrainPlan::next),
            self.channels.subscriptions.next_deadline(),
            self.returned.next_deadline(),
            self.nodes.as_ref().and_then(Nodes::next_deadline),
            self.listeners.access_log.next_deadline(),
            self.listeners.events.next_deadline(),
            self.outage.next_deadline(self.clock.now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether what is published reaches every member, here and on other nodes.
    pub fn is_broker_up(&self) -> bool {
        self.channels.subscriptions.are_complete()
    }

    /// Events that their receiver has not taken.
    pub fn events_left(&self) -> u64 {
        let waiting = self.listeners.events.queue.len() as u64;
        waiting.saturating_add(self.drivers.events_under_way)
    }

    /// Connections of any kind.
    pub fn connections(&self) -> usize {
        self.roster.len()
    }

    /// Whether no connection is left that a stop would disturb.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.roster.websockets == 0 && self.roster.busy == 0
    }

    pub fn metrics(&self) -> &Metrics {
        &self.listeners.metrics
    }

    /// The counters that drivers add to.
    pub fn metrics_mut(&mut self) -> &mut Metrics {
        &mut self.listeners.metrics
    }

    #[doc(hidden)]
    pub fn inventory(&self) -> Inventory {
        Inventory {
            connections: self.roster.len(),
            websockets: self.roster.websockets,
            channels: self.channels.len(),
            memberships: self.channels.memberships(),
            addresses: self.usage.per_address.len(),
            identities: self.roster.identities.count(),
            shared_states: self.roster.identities.shared(),
            grants: self.grants.holders(),
            allows: self.grants.allows(),
            users: self.users.len(),
            upgrades: self.disconnects.upgrades(),
            jobs: self.jobs.len(),
            reservations: self.channels.reservations(),
            unsubscriptions: self.channels.subscriptions.unsubscriptions.len(),
            held: self.outage.held(),
            runs: self.runs.live(),
            waiting: self.usage.memory.total(&self.runs),
            queued_bytes: self.runs.waiting.bytes,
            laggards: self.runs.waiting.blocked,
            taps: self.listeners.taps.len(),
        }
    }
}
