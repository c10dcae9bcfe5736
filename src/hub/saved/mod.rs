//! The hub in a snapshot: [`Hub::save`], and the order of its records. [`restoring`] reads them.
//!
//! Owns: which part writes what. Knows: every part of the hub. Never knows: the format of a record, which each part has
//! in a file `saved.rs` of its own; sockets, which the caller names by numbers.
//!
//! Facts are saved, and nothing that follows from them: the agenda, the counts of the roster and the limits, the
//! indexes of channels and users are rebuilt by [`rebuild`]. What is on its way through a part for a moment is
//! [finished](super::finish) before.
//!
//! A snapshot can be made between any two doors of the hub. Answers to what has left it come to the one that is restored,
//! because names (slots and generations, indices of channels and serial numbers of subscriptions) stay the same.

mod facts;
mod rebuild;
mod restoring;

use std::io::{self, Write};

use self::facts::{SavedHub, SavedHubEnd, SavedSlot};
use super::finish;
use super::grants::saved::AllowNumbers;
use super::settle;
use super::state::Hub;
use crate::connection::{SaveContext, Stream};
use crate::effect::Question;
use crate::hub::effects::saved::SavedEffect;
use crate::snapshot::{RecordKind, SnapshotWriter};
use crate::wire::channel_name::ChannelName;

impl<S: Stream> Hub<S> {
    /// Holds questions and publications back from [`Hub::effect`], or lets them leave again. Clients go on being
    /// read and served.
    pub fn hold_back(&mut self, holding_back: bool) {
        self.effects.hold_back(holding_back);
    }

    /// Takes questions back that have left and were not put, in their order. They leave again before all others.
    pub fn take_back(&mut self, questions: Vec<Question>) {
        self.effects.take_back(questions);
    }

    /// No turn came for a while, and the program goes on: what clients have sent meanwhile is read before anything is due.
    pub fn stood_still(&mut self) {
        for slot in 0..self.roster.slots() {
            if let Some((id, connection)) = self.roster.in_slot(slot) {
                connection.readable(false, false);
                settle::settle(self, id);
            }
        }
    }

    /// Writes everything that the hub holds. `socket`: the number by which a stream is found again. Taps end. The hub can
    /// go on afterwards.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn save<W: Write>(
        &mut self,
        to: &mut SnapshotWriter<W>,
        socket: impl Fn(&S) -> u64,
    ) -> io::Result<()> {
        finish::finish(self);
        let saved = SavedHub {
            instance: self.settings.instance,
            random: self.random.state(),
            accepted: self.roster.accepted(),
            sent: self.runs.taken,
            eviction: self.usage.eviction.into(),
            evicted_none: self.usage.evicted_none,
        };
        to.write(RecordKind::Hub, &saved)?;
        save_connections(self, to, socket)?;
        save_channels(self, to)?;
        save_slots(self, to)?;
        save_jobs(self, to)?;
        save_questions(self, to)?;
        save_report(self, to)?;
        if let Some(plan) = &self.drain {
            to.write(RecordKind::Drain, &plan.save())?;
        }
        let end = SavedHubEnd {
            connections: self.roster.len() as u64,
            channels: self.channels.len() as u64,
        };
        to.write(RecordKind::HubEnd, &end)
    }
}

fn save_connections<S: Stream, W: Write>(
    hub: &Hub<S>,
    to: &mut SnapshotWriter<W>,
    socket: impl Fn(&S) -> u64,
) -> io::Result<()> {
    let runs = hub.runs.save(to)?;
    let identities = &hub.roster.identities;
    let states = identities.save(to)?;
    let context = SaveContext {
        runs: &runs,
        states: &states,
        identities,
        now: hub.clock.now,
    };
    for (slot, connection) in hub.roster.all() {
        let socket = socket(connection.stream_ref());
        let saved = connection.save(slot, socket, context);
        to.write(RecordKind::Connection, &saved)?;
    }
    Ok(())
}

/// What the parts keep of each connection in tables.
fn save_slots<S: Stream, W: Write>(hub: &Hub<S>, to: &mut SnapshotWriter<W>) -> io::Result<()> {
    to.write(RecordKind::Disconnects, &hub.disconnects.save())?;
    let mut allows = AllowNumbers::default();
    for (slot, _) in hub.roster.all() {
        if let Some(allow) = hub.grants.next_allow(slot, &mut allows) {
            to.write(RecordKind::Allow, &allow.save())?;
        }
        let listeners = &hub.listeners;
        let saved = SavedSlot {
            slot,
            opened: hub.roster.opened_at(slot),
            paid: hub.usage.message_rate.paid(slot),
            counts: listeners.access_log.save_counts(slot),
            grants: hub.grants.save(slot, &allows),
            upgrade_began: hub.disconnects.begun_at(slot),
            reserved: hub.channels.reserved_by(slot).map(texts),
        };
        if !saved.is_empty() {
            to.write(RecordKind::Slot, &saved)?;
        }
    }
    Ok(())
}

fn save_channels<S: Stream, W: Write>(hub: &Hub<S>, to: &mut SnapshotWriter<W>) -> io::Result<()> {
    let subscriptions = &hub.channels.subscriptions;
    to.write(RecordKind::Subscriptions, &subscriptions.save())?;
    for change in subscriptions.changes() {
        to.write(RecordKind::SubscriptionChange, &SavedEffect::from(change))?;
    }
    for (index, channel) in hub.channels.all() {
        to.write(RecordKind::Channel, &channel.save(index))?;
    }
    if let Some(nodes) = &hub.nodes {
        to.write(RecordKind::Nodes, &nodes.save())?;
    }
    for released in &hub.agenda.released {
        to.write(RecordKind::Released, &released.save())?;
    }
    Ok(())
}

fn save_jobs<S: Stream, W: Write>(hub: &Hub<S>, to: &mut SnapshotWriter<W>) -> io::Result<()> {
    for job in hub.jobs.save() {
        to.write(RecordKind::Job, &job)?;
    }
    to.write(RecordKind::JobQueue, &hub.jobs.save_queue())
}

/// What waits for the drivers.
fn save_questions<S: Stream, W: Write>(hub: &Hub<S>, to: &mut SnapshotWriter<W>) -> io::Result<()> {
    to.write(RecordKind::Outage, &hub.outage.save())?;
    for held in hub.outage.save_held() {
        to.write(RecordKind::HeldQuestion, &held)?;
    }
    for effect in hub.effects.all() {
        to.write(RecordKind::Effect, &SavedEffect::from(effect))?;
    }
    for publication in hub.returned.all() {
        to.write(RecordKind::Returned, &publication.save())?;
    }
    Ok(())
}

fn save_report<S: Stream, W: Write>(hub: &Hub<S>, to: &mut SnapshotWriter<W>) -> io::Result<()> {
    let listeners = &hub.listeners;
    let metrics = listeners.metrics.save(&hub.compression.counts);
    to.write(RecordKind::Metrics, &metrics)?;
    to.write(RecordKind::Report, &listeners.save())?;
    for events in listeners.events.queue.save_events() {
        to.write(RecordKind::Events, &events)?;
    }
    Ok(())
}

fn texts(names: &[ChannelName]) -> Vec<&str> {
    names.iter().map(ChannelName::as_str).collect()
}
